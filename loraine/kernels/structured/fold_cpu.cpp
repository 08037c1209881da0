// Sums over pieces of rows on the CPU, row by row.
#include <algorithm>
#include <cstdint>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

LORAINE_CLONES void add_piece(float* y, const float* x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

}  // namespace

void fold_columns_cpu(const Tensor& y, const Tensor& x) {
  const int64_t C = x.cols(), r = y.cols();
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(r + C);
        float* out = begin_row(y, t, room);
        const float* in = read_row(x, t, room + r);
        std::fill_n(out, r, 0.0f);
        for (int64_t first = 0; first < C; first += r) add_piece(out, in + first, std::min(r, C - first));
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void unfold_columns_cpu(const Tensor& y, const Tensor& x) {
  const int64_t C = y.cols(), r = x.cols();
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(r + C);
        float* out = begin_row(y, t, room + r);
        const float* in = read_row(x, t, room);
        read_row(y, t, out);
        for (int64_t first = 0; first < C; first += r) add_piece(out + first, in, std::min(r, C - first));
        finish_row(y, t, out);
      },
      row_chunk(C));
}

}  // namespace loraine
