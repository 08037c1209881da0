// Dot products of rows of a weight with one row of activations, and widening of 16-bit and packed rows, vectorised with Highway for the
// instruction set found at run time. Called by matmul: decoding runs at the speed of reading the weight, which stays as it is stored.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// sums[r] = w[r] · x for the rows of w [rows, K], which may be strided; F32, F16, BF16 or packed. The order of sums depends on K alone.
void row_dots(float* sums, const Tensor& w, const float* x);
// The elements of a contiguous view as float; F32, F16, BF16 or packed.
void widen_row(float* out, const Tensor& in);
// The same of the rows of `in` [rows, cols], into those of `out` F32 of that shape; both may be strided.
void widen_rows(const Tensor& out, const Tensor& in);
// out[i] = in[i] rounded to bf16 (nearest even; denormals may become zero).
void narrow_row(bf16* out, const float* in, int64_t n);

}  // namespace loraine
