// Rows of codes that stand for eight elements each (core/vector_codes.h) back to f32. Called by quantised_rows.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// The elements of a contiguous view, the bits of dequantise().
void vector_row(float* out, const Tensor& in);

}  // namespace loraine
