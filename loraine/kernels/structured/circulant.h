// Products with a matrix of circulant blocks, as C3A has them, by Fourier's transform: the block of row block m and column block n has
// w[m, n, (j − k) mod b] at row k, column j. Activations x [T, N·b], y [T, M·b] are F32 or BF16 each by itself (arithmetic in f32, one
// rounding), rows may be strided. Spectra [M, N, 2·(b/2 + 1)] F32: of each block the real parts, then the imaginary ones, up to half the
// frequencies. Any b; those with small factors are fast. A row's bits depend on it alone.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

inline int64_t spectrum_width(int64_t b) { return 2 * (b / 2 + 1); }

// Of w [M, N, b].
void circulant_spectrum(Context& ctx, const Tensor& spectrum, const Tensor& w);
// d_w += the gradient of w, of d_spectrum as multiply_circulant_backward sums it up.
void circulant_spectrum_backward(Context& ctx, const Tensor& d_w, const Tensor& d_spectrum);
// y += scale · x Cᵀ
void multiply_circulant(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& spectrum, int64_t b, float scale);
// d_x += scale · d_y C (skipped when its data is nullptr); d_spectrum += what the rows give, in a fixed order.
void multiply_circulant_backward(Context& ctx, const Tensor& d_x, const Tensor& d_spectrum, const Tensor& d_y, const Tensor& x,
                                 const Tensor& spectrum, int64_t b, float scale);

}  // namespace loraine
