// Matrix products on oneDNN, cut into fixed tiles so that the result does not depend on the number of threads. Row-major, f32 activations;
// the frozen operand may be F32, F16 or BF16 (widened tile by tile; `use_bf16` is reserved for products in bf16 where the machine has
// them).
#pragma once
#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

// y [M, N] = alpha · x [M, K] wᵀ (w [N, K]) + beta · y. Rows of y, x and w may be strided.
void matmul_nt(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha = 1, float beta = 0, bool use_bf16 = false);
// y [M, N] = alpha · x [M, K] w (w [K, N]) + beta · y
void matmul_nn(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha = 1, float beta = 0, bool use_bf16 = false);
// y [M, N] = alpha · xᵀ w (x [K, M], w [K, N]) + beta · y; both F32
void matmul_tn(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha = 1, float beta = 0);

}  // namespace loraine
