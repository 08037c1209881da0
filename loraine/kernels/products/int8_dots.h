// Dot products of rows of a weight in int8 with a few rows of activations in int8, in integers: each weight is read from memory once.
// Called by int8_products for the few rows of a decoding step.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// sums[m · sums_stride + r] = w[r] · x[m], exact, for the rows of w [rows, K] I8 and `x_rows` of x [x_rows, K] (values of int8, widened);
// rows of w may be strided. K up to kMostInt8Terms.
void int8_dots(int32_t* sums, int64_t sums_stride, const Tensor& w, const int16_t* x, int64_t x_rows);

}  // namespace loraine
