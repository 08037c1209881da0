// NEFTune's noise (Jain et al. 2023). Adding a constant, it needs no backward.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

constexpr uint64_t kEmbeddingNoise = uint64_t{1} << 40;  // its site: a place of its own beside those of dropout

// y [T, C] F32 += U(−size, size), a function of (ctx.seed, ctx.step, site, row, column) alone. Rows may be strided.
void add_noise(Context& ctx, const Tensor& y, float size, uint64_t site);

}  // namespace loraine
