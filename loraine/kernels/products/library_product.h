// One tile of a product with bf16 or int8 operands through oneDNN's matmul primitive (AVX-512 BF16, VNNI, AMX). Called by matmul, attention
// and int8_products.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// y [m, n] = alpha · op(x) op(w) (+ y when `add`), on the calling thread alone; x and w BF16, y F32 or BF16; rows may be strided.
// op(x) [m, k] is xᵀ of x [k, m] when `x_t`; op(w) [k, n] is wᵀ of w [n, k] when `w_t`. Only where
// has_bf16_instructions().
void bf16_tile(const Tensor& y, const Tensor& x, const Tensor& w, bool x_t, bool w_t, float alpha, bool add);
// y [m, n] I32 = x [m, k] op(w), x and w I8, in the same way; only where has_int8_products(). Sums are exact. (Added to y by the library
// they would not be: it adds in f32.)
void int8_tile(const Tensor& y, const Tensor& x, const Tensor& w, bool w_t);

}  // namespace loraine
