// Dot products of rows of a weight with several rows of activations: each weight is read from memory once, whatever the number of rows.
// Called by matmul and low_rank for the few rows of a decoding step.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// sums[m · sums_stride + r] = w[r] · x[m] for the rows of w [rows, K] and `x_rows` of x; w is F32, F16, BF16 or packed. Every sum has the
// bits that row_dots gives it, so a row does not feel the others.
void dot_tiles(float* sums, int64_t sums_stride, const Tensor& w, const float* x, int64_t x_stride, int64_t x_rows);

}  // namespace loraine
