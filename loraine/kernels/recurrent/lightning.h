// Lightning attention (Qin et al. 2024, as in MiniMax-01): linear attention whose heads forget at a fixed rate. Per head, with a state
// S [key_dim, value_dim] in f32: S ← e^decay S + k ⊗ v, o = Sᵀ q.
#pragma once
#include "loraine/core/context.h"
#include "loraine/kernels/recurrent/recurrent_state.h"

namespace loraine {

struct LightningShape {
  int64_t heads = 0, key_dim = 0, value_dim = 0;
  int64_t keys() const { return heads * key_dim; }
  int64_t values() const { return heads * value_dim; }
  int64_t state_columns() const { return heads * key_dim * value_dim; }
};

// o, v [T, values], q, k [T, keys], each F32 or BF16 by itself, rows may be strided; decay F32 [heads], logarithms (at most 0). borders
// [recurrent_border_rows(T), state_columns] F32 is what the backward needs; may have data == nullptr. A state has state_columns columns.
void lightning_attention(Context& ctx, const Tensor& o, const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v,
                         const Tensor& decay, std::span<const Sequence> sequences, const LightningShape& shape,
                         const RecurrentState& state = {});
// Overwrites d_q, d_k, d_v (F32 or BF16 each), of training: all sequences are whole. The decays are fixed.
void lightning_attention_backward(Context& ctx, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o,
                                  const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& decay,
                                  std::span<const Sequence> sequences, const LightningShape& shape);
size_t lightning_bytes(const LightningShape& shape);  // what each thread keeps for both

}  // namespace loraine
