// The selective scan of Mamba-2 (Dao and Gu 2024). Per head, with a state h [state, head_dim] in f32: dt = softplus(dt_raw + dt_bias), held
// between dt_min and dt_max; h ← exp(dt · A) h + B ⊗ dt x, A = −exp(A_log); y = hᵀ C + D x.
#pragma once
#include <limits>

#include "loraine/core/context.h"
#include "loraine/kernels/recurrent/recurrent_state.h"

namespace loraine {

struct Mamba2Shape {
  int64_t heads = 0, head_dim = 0;
  int64_t groups = 0, state = 0;  // each group of heads / groups heads has its own B and C, of `state` columns
  float dt_min = 0, dt_max = std::numeric_limits<float>::infinity();
  int64_t width() const { return heads * head_dim; }
  int64_t keys() const { return groups * state; }
  int64_t state_columns() const { return heads * head_dim * state; }
};

struct Mamba2Weights {
  Tensor A_log, D, dt_bias;  // F32, [heads] each
};

// y, x [T, width], B, C [T, keys], dt_raw [T, heads], each F32 or BF16 by itself, rows may be strided. borders [recurrent_border_rows(T),
// state_columns] F32 is what the backward needs; may have data == nullptr. A state has state_columns columns.
void mamba2(Context& ctx, const Tensor& y, const Tensor& borders, const Tensor& x, const Tensor& B, const Tensor& C, const Tensor& dt_raw,
            const Mamba2Weights& weights, std::span<const Sequence> sequences, const Mamba2Shape& shape, const RecurrentState& state = {});
// Overwrites d_x, d_B, d_C, d_dt_raw (F32 or BF16 each), of training: all sequences are whole. Where d_weights has tensors, they become the
// gradients of the weights. partial [T, mamba2_partial_columns] F32, contiguous, is room for what parts of the heads give B, C and the
// weights before it is added up.
void mamba2_backward(Context& ctx, const Tensor& d_x, const Tensor& d_B, const Tensor& d_C, const Tensor& d_dt_raw,
                     const Mamba2Weights& d_weights, const Tensor& d_y, const Tensor& borders, const Tensor& x, const Tensor& B,
                     const Tensor& C, const Tensor& dt_raw, const Mamba2Weights& weights, std::span<const Sequence> sequences,
                     const Mamba2Shape& shape, const Tensor& partial);
int64_t mamba2_partial_columns(const Mamba2Shape& shape);
size_t mamba2_bytes(const Mamba2Shape& shape);  // what each thread keeps for both

}  // namespace loraine
