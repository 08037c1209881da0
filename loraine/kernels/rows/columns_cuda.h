// Columns by their own numbers, and norms of rows, on the GPU: what DoRA's magnitudes need (columns.h, adapters/dora.h, whose shapes and
// types hold here too). Tensors and arrays lie in device memory.
#pragma once
#include "loraine/core/gpu.h"
#include "loraine/core/tensor.h"

namespace loraine {

// y[t, c] = scale[c] · x[t, c] + (accumulate ? y[t, c] : 0); y may be x
void scale_columns_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const float* scale, bool accumulate);
// d[c] += Σ_t a[t, c] · b[t, c] / divisor[c]; partial [column_dots_room(T, C)] is room. Sums in double and in a fixed order.
void column_dots_cuda(GpuStream& stream, float* d, const Tensor& a, const Tensor& b, const float* divisor, double* partial);
int64_t column_dots_room(int64_t T, int64_t C);

void row_squares_cuda(GpuStream& stream, double* squares, const Tensor& w);  // squares[o] = ‖row o of w‖²

// Norms of the rows of W + s B A, out of products of A and B alone: n² = ‖W‖² + 2 s B·(W Aᵀ) + s² B (A Aᵀ) Bᵀ.
struct SumNorms {
  float *norm, *factor, *factor_less_one;  // [out] n, m / n, m / n − 1
  const double* squares;                   // [out] of the rows of W
  const float *w_a, *b, *b_a_a;            // [out, r] contiguous: W Aᵀ, B, B A Aᵀ
  const float* magnitude;                  // [out] m
  float scale;                             // s
};
void sum_norms_cuda(GpuStream& stream, const SumNorms& of, int64_t out, int64_t r);

}  // namespace loraine
