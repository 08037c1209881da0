// Frozen weights in int8 with a scale per row (WeightPart::row_scales): how they are made, multiplied and read. Called by weight.cpp and
// model/int8.
#pragma once
#include "loraine/quant/weight.h"

namespace loraine {

// The part's weight in int8, in memory of its own, whatever type it had; what it lay in is let go of (a mapping stays as it is).
void to_int8(Context& ctx, WeightPart& part);
bool is_int8(const Weight& weight);  // all parts are, or none

// As multiply_weight and multiply_weight_backward, which call them. x is rounded to int8 row by row; so is d_y, after the scales of the
// weight's rows have been multiplied into its columns.
void multiply_int8(Context& ctx, const Tensor& y, const Weight& weight, const Tensor& x);
void multiply_int8_backward(Context& ctx, const Tensor& d_x, const Weight& weight, const Tensor& d_y, bool accumulate);
// Bytes that `rows` rounded rows of `widest` columns take, on the calling thread, and each thread's tiles.
size_t int8_weight_scratch(int64_t rows, int64_t widest);

}  // namespace loraine
