// Rotary position embedding: (x1, x2) → (x1 cos − x2 sin, x2 cos + x1 sin).
#pragma once
#include <cstdint>
#include <span>

#include "loraine/core/context.h"

namespace loraine {

// Which columns turn together, with n frequencies: `half`, Hugging Face's usual layout: i and n + i; `pairs` (Cohere, GLM, ERNIE): 2i, 2i
// + 1.
enum class RopeLayout { half, pairs };

// In place. x [T, H·D] F32 or BF16 (rows may be strided), positions [T], inverse_frequencies of at most D/2, scale on cos and sin (1 unless
// yarn). In each head the columns [first, first + 2 · frequencies) turn, the others stay.
void rope(Context& ctx, const Tensor& x, int64_t head_dim, std::span<const int32_t> positions, std::span<const float> inverse_frequencies,
          float scale = 1, RopeLayout layout = RopeLayout::half, int64_t first = 0);
// The gradient turns back by the same angle. In place.
void rope_backward(Context& ctx, const Tensor& d_x, int64_t head_dim, std::span<const int32_t> positions,
                   std::span<const float> inverse_frequencies, float scale = 1, RopeLayout layout = RopeLayout::half, int64_t first = 0);

}  // namespace loraine
