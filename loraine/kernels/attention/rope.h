// Rotary position embedding, Hugging Face's half-split layout: (x1, x2) → (x1 cos − x2 sin, x2 cos + x1 sin).
#pragma once
#include <cstdint>
#include <span>

#include "loraine/core/context.h"

namespace loraine {

// In place. x [T, H·D] (rows may be strided), positions [T], inverse_frequencies [D/2], scale on cos and sin (1 unless yarn).
void rope(Context& ctx, const Tensor& x, int64_t head_dim, std::span<const int32_t> positions, std::span<const float> inverse_frequencies,
          float scale = 1);
// The gradient turns back by the same angle. In place.
void rope_backward(Context& ctx, const Tensor& d_x, int64_t head_dim, std::span<const int32_t> positions,
                   std::span<const float> inverse_frequencies, float scale = 1);

}  // namespace loraine
