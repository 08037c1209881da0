// The gated delta rule (Gated DeltaNet, Yang et al. 2025; with a decay per channel: Kimi Delta Attention, 2025). Per head, with a state
// S [key_dim, value_dim] in f32: S ← e^g S, S ← S + k ⊗ β (v − Sᵀ k), o = Sᵀ q.
#pragma once
#include "loraine/core/context.h"
#include "loraine/kernels/recurrent/recurrent_state.h"

namespace loraine {

struct GatedDeltaShape {
  int64_t key_heads = 0, value_heads = 0;  // key head j serves value heads j · r … j · r + r − 1, r = value_heads / key_heads
  int64_t key_dim = 0, value_dim = 0;
  float scale = 1;          // multiplies q, usually 1 / sqrt(key_dim)
  float normalise_eps = 0;  // above 0: q and k are first divided by sqrt(Σ of their squares + this), head by head
  bool channel_decay = false;
  int64_t keys() const { return key_heads * key_dim; }
  int64_t values() const { return value_heads * value_dim; }
  int64_t decays() const { return channel_decay ? keys() : value_heads; }
  int64_t state_columns() const { return value_heads * key_dim * value_dim; }
};

// o [T, values]; q, k [T, keys], v [T, values], each F32 or BF16 by itself, rows may be strided; g (logarithm of the decay, at most 0)
// [T, decays] F32, beta [T, value_heads] F32. borders [recurrent_border_rows(T), state_columns] F32 is what the backward needs; may have
// data == nullptr. A state has state_columns columns.
void gated_delta(Context& ctx, const Tensor& o, const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& g,
                 const Tensor& beta, std::span<const Sequence> sequences, const GatedDeltaShape& shape, const RecurrentState& state = {});
// Overwrites d_q, d_k, d_v (F32 or BF16 each), d_g, d_beta (F32), of training: all sequences are whole. The states within chunks are
// computed once more.
void gated_delta_backward(Context& ctx, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_g, const Tensor& d_beta,
                          const Tensor& d_o, const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& g,
                          const Tensor& beta, std::span<const Sequence> sequences, const GatedDeltaShape& shape);
size_t gated_delta_bytes(const GatedDeltaShape& shape);  // what each thread keeps for both

}  // namespace loraine
