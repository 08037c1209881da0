// Rows of packed weights (core/packed.h) against a row of activations, and back to f32. Called by the products and the embedding.
#pragma once
#include "loraine/core/packed.h"

namespace loraine {

// sums[r] = Σ_k w[r, k] x[k] for `rows` rows of a packed w, `stride` elements apart; x f32. Read once, and with the bits that row_dots
// gives on the unpacked rows.
void packed_dots(float* sums, const void* w, Dtype dtype, int64_t stride, int64_t rows, const float* x, int64_t K);
// n packed elements as f32, the bits of unpack().
void unpack_row(float* out, const void* in, Dtype dtype, int64_t n);

}  // namespace loraine
