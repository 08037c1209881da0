// Products with a Kronecker product w₁ ⊗ w₂, which is never made: w₁ [a, b], w₂ [c, d] F32, x [T, b·d], y [T, a·c]. Activations are F32 or
// BF16 each by itself (arithmetic in f32, one rounding), rows may be strided. A row's bits depend on it alone.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// u [T, b·c] = w₂ on each of the b pieces of x: u[t, b, c] = Σ_d w₂[c, d] x[t, b, d]
// y[t, a, c] += scale · Σ_b w₁[a, b] u[t, b, c]
void kronecker(Context& ctx, const Tensor& y, const Tensor& u, const Tensor& x, const Tensor& w1, const Tensor& w2, float scale);
// d_x += … (skipped when its data is nullptr), d_w1 += …, d_w2 += …; d_u [T, b·c] is room, u as kronecker gave it.
void kronecker_backward(Context& ctx, const Tensor& d_x, const Tensor& d_w1, const Tensor& d_w2, const Tensor& d_u, const Tensor& d_y,
                        const Tensor& x, const Tensor& u, const Tensor& w1, const Tensor& w2, float scale);

}  // namespace loraine
