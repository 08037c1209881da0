// Products with a square matrix of blocks on its diagonal, as OFT rotates its input by. Activations x, y [T, n·b] are F32 or BF16 each by
// itself (arithmetic in f32, one rounding), rows may be strided; r [n, b, b] F32, or [1, b, b] for all n. A row's bits depend on it alone.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// y[t, k·b + c] = Σ_j x[t, k·b + j] r[k, j, c], or r[k, c, j] when transposed, + (accumulate ? y : 0). y is not x.
void multiply_blocks(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& r, bool transposed, bool accumulate);
// d_r[k, j, c] += Σ_t x[t, k·b + j] d_y[t, k·b + c]; of a shared block the sum over all k. In f32, in a fixed order.
void multiply_blocks_gradient(Context& ctx, const Tensor& d_r, const Tensor& x, const Tensor& d_y);

}  // namespace loraine
