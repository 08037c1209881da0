// Frozen weights in int8 with a scale per row (WeightPart::row_scales): how they are made, multiplied and read. Called by weight.cpp and
// model/int8.
#pragma once
#include "loraine/quant/weight.h"

namespace loraine {

// The part's weight in int8, in memory of its own, whatever type it had; what it lay in is let go of (a mapping stays as it is). One that
// was quantised to INT8 while loading keeps its codes.
void to_int8(Context& ctx, WeightPart& part);
bool is_int8(const Weight& weight);  // all parts are, or none

// As multiply_weight and multiply_weight_backward, which call them. x is rounded to int8 row by row, but for the columns that hold its
// largest numbers (LLM.int8's outlier columns: one of at least kOutlier in size; at most one column in kColumnsPerOutlier), which are
// multiplied as they are with the weight's own columns. d_y is rounded too, after the scales of the weight's rows have been multiplied into
// its columns.
inline constexpr float kOutlier = 6;
inline constexpr int64_t kColumnsPerOutlier = 32;
void multiply_int8(Context& ctx, const Tensor& y, const Weight& weight, const Tensor& x);
void multiply_int8_backward(Context& ctx, const Tensor& d_x, const Weight& weight, const Tensor& d_y, bool accumulate);
// Bytes that `rows` rounded rows of `widest` columns take, on the calling thread, and each thread's tiles.
size_t int8_weight_scratch(int64_t rows, int64_t widest);

}  // namespace loraine
