// Rows of codes whose scales lie apart (core/quant_state.h) against a row of activations, and back to f32. Called by packed_rows.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// sums[r] = Σ_k w[r, k] x[k]; w may be strided. The bits that row_dots gives on the dequantised rows.
void quantised_dots(float* sums, const Tensor& w, const float* x);
// A contiguous view as f32, the bits of dequantise().
void dequantise_row(float* out, const Tensor& in);

}  // namespace loraine
