// Ops with one factor on the CPU, row by row.
#include "loraine/core/tensor.h"
#include "loraine/kernels/activations/activation_rows.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

LORAINE_CLONES void times_row(float* y, const float* x, float factor, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] = factor * x[c];
}

LORAINE_CLONES void add_scaled_row(float* y, const float* a, const float* b, float factor, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] = a[c] + factor * b[c];
}

LORAINE_CLONES void soft_cap_backward_row(float* d, const float* y, float cap, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) d[c] *= 1 - (y[c] / cap) * (y[c] / cap);
}

}  // namespace

void scale_cpu(const Tensor& y, const Tensor& x, float factor) {
  const int64_t C = y.cols();
  parallel_for(
      y.rows(),
      [&](int64_t t) {
        float* room = row_room(2 * C);
        float* out = begin_row(y, t, room);
        times_row(out, read_row(x, t, room + C), factor, C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void add_scaled_cpu(const Tensor& y, const Tensor& a, const Tensor& b, float factor) {
  const int64_t C = y.cols();
  parallel_for(
      y.rows(),
      [&](int64_t t) {
        float* room = row_room(3 * C);
        float* out = begin_row(y, t, room);
        add_scaled_row(out, read_row(a, t, room + C), read_row(b, t, room + 2 * C), factor, C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void add_rounded_scaled_cpu(const Tensor& sum, const Tensor& rounded, const Tensor& x, float factor) {
  const int64_t C = sum.cols();
  parallel_for(
      sum.rows(),
      [&](int64_t t) {
        float* row = begin_row(sum, t, nullptr);
        add_scaled_row(row, row, read_row(x, t, row_room(C)), factor, C);
        write_row(rounded, t, row);
      },
      row_chunk(C));
}

void soft_cap_cpu(const Tensor& y, const Tensor& x, float cap) {
  const int64_t C = y.cols();
  parallel_for(
      y.rows(), [&](int64_t t) { soft_cap_row(y.row_range(t, 1).f32(), x.row_range(t, 1).f32(), C, cap); }, row_chunk(C));
}

void soft_cap_backward_cpu(const Tensor& d, const Tensor& y, float cap) {
  const int64_t C = d.cols();
  parallel_for(
      d.rows(),
      [&](int64_t t) {
        float* out = begin_row(d, t, row_room(C));
        read_row(d, t, out);
        soft_cap_backward_row(out, y.row_range(t, 1).f32(), cap, C);
        finish_row(d, t, out);
      },
      row_chunk(C));
}

}  // namespace loraine
