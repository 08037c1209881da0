// One tile of a product with bf16 operands: through the kernel in bf16_product where that serves, else through oneDNN's matmul primitive
// (AMX). Called by matmul and attention.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// y [m, n] = alpha · op(x) op(w) (+ y when `add`), on the calling thread alone; x and w BF16, y F32 or BF16; rows may be strided.
// op(x) [m, k] is xᵀ of x [k, m] when `x_t`; op(w) [k, n] is wᵀ of w [n, k] when `w_t`. Only where has_bf16_products().
void bf16_tile(const Tensor& y, const Tensor& x, const Tensor& w, bool x_t, bool w_t, float alpha, bool add);
// The same, through oneDNN in any case.
void library_tile(const Tensor& y, const Tensor& x, const Tensor& w, bool x_t, bool w_t, float alpha, bool add);

}  // namespace loraine
