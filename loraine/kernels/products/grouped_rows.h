// Rows of codes with scales of groups (core/grouped_codes.h) against a row of activations, and back to f32. Called by quantised_rows.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// Elements [c, c + n) of a row, which begin at codes, with the scales and zeros of its groups from that of column c on (of all its groups
// where columns choose theirs).
struct GroupedRowPiece {
  const uint8_t* codes;
  int64_t c, n;
  const float *scales, *zeros;
};

// The elements of a contiguous view, the bits of dequantise().
void grouped_row(float* out, const Tensor& in);
// sums[r] = Σ_k w[r, k] x[k] with the bits of row_dots on the dequantised rows. False, and nothing done, where groups do not fall on whole
// pieces of the rows, or columns choose their groups.
bool grouped_dots(float* sums, const Tensor& w, const float* x);

}  // namespace loraine
