// Column ops on the CPU: scaling row by row, dots by stripes of columns that each thread walks down.
#include <algorithm>
#include <cstdint>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

constexpr int64_t kStripe = 64;  // columns of a dot that one item takes

LORAINE_CLONES void scale_row(float* y, const float* x, const float* scale, const float* offset, bool accumulate, int64_t C) {
  if (offset && accumulate) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) y[c] = (scale[c] * x[c] + offset[c]) + y[c];
  } else if (offset) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) y[c] = scale[c] * x[c] + offset[c];
  } else if (accumulate) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) y[c] = scale[c] * x[c] + y[c];
  } else {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) y[c] = scale[c] * x[c];
  }
}

LORAINE_CLONES void add_products(double* sum, const float* a, const float* b, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) sum[c] += static_cast<double>(a[c]) * static_cast<double>(b[c]);
}

}  // namespace

void scale_columns_cpu(const Tensor& y, const Tensor& x, const float* scale, const float* offset, bool accumulate) {
  const int64_t C = y.cols();
  parallel_for(
      y.rows(),
      [&](int64_t t) {
        float* room = row_room(2 * C);
        float* out = begin_row(y, t, room);
        if (accumulate) read_row(y, t, out);
        scale_row(out, read_row(x, t, room + C), scale, offset, accumulate, C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void column_dots_cpu(float* d, const Tensor& a, const Tensor& b, const float* divisor) {
  const int64_t C = a.cols(), stripes = (C + kStripe - 1) / kStripe;
  parallel_for(stripes, [&](int64_t s) {
    const int64_t first = s * kStripe, n = std::min(kStripe, C - first);
    const Tensor left = a.col_range(first, n), right = b.col_range(first, n);
    double sum[kStripe] = {};
    float* room = row_room(2 * kStripe);
    for (int64_t t = 0; t < a.rows(); ++t) add_products(sum, read_row(left, t, room), read_row(right, t, room + kStripe), n);
    for (int64_t c = 0; c < n; ++c) d[first + c] += static_cast<float>(sum[c] / static_cast<double>(divisor[first + c]));
  });
}

}  // namespace loraine
