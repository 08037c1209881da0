// Gradients of tensors that a frozen base does not train: norm weights, biases, embeddings, and the look-up of LoRA on embeddings. Called
// by model/decoder and adapters/embedding_lora only when such a tensor is trained. All add to the gradient; each element is summed over the
// rows in their order, so the result does not depend on the number of threads.
#pragma once
#include <cstdint>
#include <span>

#include "loraine/core/context.h"

namespace loraine {

// d_weight [C] F32 += Σ_t d_y[t] · x[t] · rstd[t], the weight of rms_norm. d_y, x [T, C] F32 or BF16, rstd [T] F32.
void norm_weight_gradient(Context& ctx, const Tensor& d_weight, const Tensor& d_y, const Tensor& x, const Tensor& rstd);
// d_weight [C] F32 += Σ_t d_y[t] · (x[t] − mean[t]) · rstd[t], the weight of layer_norm. d_y, x as above, mean, rstd [T] F32.
void layer_norm_weight_gradient(Context& ctx, const Tensor& d_weight, const Tensor& d_y, const Tensor& x, const Tensor& mean,
                                const Tensor& rstd);
// d_bias [C] F32 += Σ_t d_y[t]. d_y [T, C] F32 or BF16.
void bias_gradient(Context& ctx, const Tensor& d_bias, const Tensor& d_y);
// d_table [V, C] F32, contiguous: row tokens[t] += d_y[t]. d_y [T, C] F32. Ids are checked.
void embedding_gradient(Context& ctx, const Tensor& d_table, const Tensor& d_y, std::span<const int32_t> tokens);
// y[t, i] = table[i, tokens[t]]: y [T, R] F32, table [R, V] F32.
void column_lookup(Context& ctx, const Tensor& y, const Tensor& table, std::span<const int32_t> tokens);
// d_table[i, tokens[t]] += d_y[t, i].
void column_lookup_backward(Context& ctx, const Tensor& d_table, const Tensor& d_y, std::span<const int32_t> tokens);

}  // namespace loraine
