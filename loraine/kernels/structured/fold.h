// Sums over equal pieces of a row, as MiSS takes them of its input, and their backward. Activations are F32 or BF16 each by itself
// (arithmetic in f32, one rounding), rows may be strided; the last piece may be shorter. A row's bits depend on it alone.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// y[t, k] = Σ_j x[t, j·r + k] for x [T, C], y [T, r], r at most C.
void fold_columns(Context& ctx, const Tensor& y, const Tensor& x);
// y[t, j·r + k] += x[t, k] for y [T, C], x [T, r]: the backward of fold_columns, and a matrix whose rows repeat.
void unfold_columns(Context& ctx, const Tensor& y, const Tensor& x);

}  // namespace loraine
