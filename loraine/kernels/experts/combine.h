// Tokens to the rows of their experts and back. Activations are F32 or BF16 each by itself (sums in f32 in ascending order of k, one
// rounding); rows may be strided. x, y and their gradients are [T, C], `rows` and theirs [T · K, C] in the order of `order`, weights F32
// [T, K].
#pragma once
#include "loraine/kernels/experts/order.h"

namespace loraine {

// rows[place(t, k)] = x[t], or weights[t, k] · x[t] where there are weights.
void gather_tokens(Context& ctx, const Tensor& rows, const Tensor& x, const ExpertOrder& order, const Tensor* weights = nullptr);
// d_x[t] (+)= Σ_k d_rows[place(t, k)], or Σ_k weights[t, k] · d_rows[place(t, k)]. With weights d_weights[t, k] = x[t] · d_rows[place(t,
// k)].
void gather_tokens_backward(Context& ctx, const Tensor& d_x, const Tensor& d_rows, const ExpertOrder& order, bool accumulate);
void gather_tokens_backward(Context& ctx, const Tensor& d_x, const Tensor& d_weights, const Tensor& d_rows, const Tensor& x,
                            const ExpertOrder& order, const Tensor& weights, bool accumulate);

// y[t] (+)= Σ_k weights[t, k] · rows[place(t, k)]; without weights each counts once.
void combine_experts(Context& ctx, const Tensor& y, const Tensor& rows, const ExpertOrder& order, const Tensor* weights, bool accumulate);
// d_rows[place(t, k)] = weights[t, k] · d_y[t] and d_weights[t, k] = d_y[t] · rows[place(t, k)]. d_rows may be rows.
// (Without weights what comes back is gather_tokens of d_y.)
void combine_experts_backward(Context& ctx, const Tensor& d_rows, const Tensor& d_weights, const Tensor& d_y, const Tensor& rows,
                              const ExpertOrder& order, const Tensor& weights);

// out[place(t, k)] = weights[t, k] · rows[place(t, k)], row by row [T · K, F]; out may be rows. Before the last product of an expert it
// does what weights in combine_experts do after it, and its backward needs nothing of what that product gave.
void weigh_rows(Context& ctx, const Tensor& out, const Tensor& rows, const ExpertOrder& order, const Tensor& weights);
// d_weights[t, k] = d_out[place(t, k)] · rows[place(t, k)]; d_rows (may be d_out) = weights[t, k] · d_out.
void weigh_rows_backward(Context& ctx, const Tensor& d_rows, const Tensor& d_weights, const Tensor& d_out, const Tensor& rows,
                         const ExpertOrder& order, const Tensor& weights);
// The biases of that product: y[t] += Σ_k weights[t, k] · biases[chosen[t, k]], biases [E, C] F32, chosen I32 [T, K]; and d_weights[t, k]
// += d_y[t] · biases[chosen[t, k]].
void add_weighted_biases(Context& ctx, const Tensor& y, const Tensor& biases, const Tensor& chosen, const Tensor& weights);
void add_weighted_biases_backward(Context& ctx, const Tensor& d_weights, const Tensor& d_y, const Tensor& biases, const Tensor& chosen);

}  // namespace loraine
