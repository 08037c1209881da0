// Rows of packed weights (core/packed.h) against a row of activations, and back to f32. Called by the products and the embedding.
#pragma once
#include "loraine/core/packed.h"

namespace loraine {

// sums[r] = Σ_k w[r, k] x[k] for the rows of a packed w [rows, K], which may be strided; x f32. Read once, and with the bits that row_dots
// gives on the unpacked rows.
void packed_dots(float* sums, const Tensor& w, const float* x);
// The elements of a contiguous packed view as f32, the bits of unpack().
void unpack_row(float* out, const Tensor& in);

}  // namespace loraine
