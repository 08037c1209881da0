// Ops that treat columns, one number per column: what DoRA's magnitudes need. x, y, a, b [T, C] are F32 or BF16 each by itself (arithmetic
// in f32, one rounding); rows may be strided; scale, offset, d [C] are f32.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// y[t, c] = scale[c] · x[t, c] + offset[c] (offset may be nullptr) + (accumulate ? y[t, c] : 0). y may be x. Its backward with respect to x
// is the same call on gradients, with respect to scale it is column_dots.
void scale_columns(Context& ctx, const Tensor& y, const Tensor& x, const float* scale, const float* offset = nullptr,
                   bool accumulate = false);
// d[c] += Σ_t a[t, c] · b[t, c] / divisor[c]. Sums run over fixed blocks of rows in double, in a fixed order.
void column_dots(Context& ctx, float* d, const Tensor& a, const Tensor& b, const float* divisor);

}  // namespace loraine
