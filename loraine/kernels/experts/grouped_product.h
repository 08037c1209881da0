// Matrix products in which every expert's rows meet that expert's matrix, all in one parallel loop. Experts without rows cost nothing. Rows
// are those of an ExpertOrder. Activations x and y are F32 or BF16 and multiplied as in products/matmul.h, the experts' matrices F32, F16,
// BF16 or packed. Sums do not depend on the number of threads. In a batch of up to kFewRows tokens, as in decoding, every matrix is read
// from memory once for all its rows, and each row of y has the bits that it has alone.
#pragma once
#include <cstddef>
#include <span>

#include "loraine/kernels/experts/order.h"

namespace loraine {

// Expert e's matrix [R, C] in one tensor of all [E, R, C] without gaps.
Tensor expert_matrix(const Tensor& all, int64_t e);

// For the rows of expert e, w_e [N, K] = experts[e]: y = alpha · x w_eᵀ + beta · y; x [rows, K], y [rows, N]. Matrices stored [out, in] go
// forward with it, those stored [in, out] backward. Rows of y, x and w_e may be strided.
void grouped_nt(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> experts, const ExpertOrder& order, float alpha = 1,
                float beta = 0);
// The same with w_e [K, N]: y = alpha · x w_e + beta · y. Matrices stored [in, out] go forward with it, those stored [out, in] backward.
void grouped_nn(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> experts, const ExpertOrder& order, float alpha = 1,
                float beta = 0);
// Bytes of scratch that one thread needs at most for grouped_nt (w_t) or grouped_nn with matrices of that type, N and K as there.
size_t grouped_scratch_bytes(int64_t N, int64_t K, bool w_t, Dtype w, Dtype x);
// The gradients of the experts' matrices: sums[e] F32 [M, N] += alpha · x_eᵀ z_e, of the rows of expert e of x [rows, M] and z [rows, N].
void grouped_tn(Context& ctx, std::span<const Tensor> sums, const Tensor& x, const Tensor& z, const ExpertOrder& order, float alpha = 1);

// y [rows, N] += biases[e], biases [E, N] of any type that weights have.
void add_expert_bias(Context& ctx, const Tensor& y, const Tensor& biases, const ExpertOrder& order);
// Their gradients: d_biases [E, N] F32, row e += Σ d_y of the rows of expert e, in their order.
void expert_bias_gradient(Context& ctx, const Tensor& d_biases, const Tensor& d_y, const ExpertOrder& order);

}  // namespace loraine
