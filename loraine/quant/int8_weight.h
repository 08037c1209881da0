// Products with INT8 weights in integers (Weight::integer_products): LLM.int8's. Called by weight.cpp.
#pragma once
#include <span>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

// As multiply_weight and multiply_weight_backward, of the parts of a weight, INT8. x is rounded to int8 row by row, but for its largest
// numbers (LLM.int8's outliers: at least kOutlier in size; at most one column in kColumnsPerOutlier), which are multiplied as they are.
// With up to kFewRows rows (kernels/matmul.h), as in decoding, they are each row's own, so that a row has the bits that it has alone; else
// whole columns that hold such a number in any row. d_y is rounded too, after the scales of the weight's rows have been multiplied into its
// columns.
inline constexpr float kOutlier = 6;
inline constexpr int64_t kColumnsPerOutlier = 32;
void multiply_int8(Context& ctx, const Tensor& y, std::span<const Tensor> parts, const Tensor& x);
void multiply_int8_backward(Context& ctx, const Tensor& d_x, std::span<const Tensor> parts, const Tensor& d_y, bool accumulate);
// Bytes that `rows` rounded rows of `widest` columns take, on the calling thread, and each thread's tiles.
size_t int8_weight_scratch(int64_t rows, int64_t widest);

}  // namespace loraine
