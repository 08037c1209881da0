// RMSNorm on the CPU, row by row.
#include <cmath>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/norms/norm_weight.h"

namespace loraine {
namespace {

LORAINE_CLONES float sum_of_squares_row(const float* x, int64_t C) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < C; ++c) sum += x[c] * x[c];
  return sum;
}

LORAINE_CLONES void scale_row(float* y, const float* x, const float* weight, float rstd, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] = x[c] * rstd * weight[c];
}

// With n = x · rstd and g = d_y · weight: d_x = rstd · (g − n · mean(g · n)).
LORAINE_CLONES void backward_row(float* d_x, const float* d_y, const float* x, const float* weight, float rstd, int64_t C,
                                 bool accumulate) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t c = 0; c < C; ++c) dot += d_y[c] * weight[c] * x[c];
  float back = dot * rstd * rstd * rstd / static_cast<float>(C);
  if (accumulate) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) d_x[c] += d_y[c] * weight[c] * rstd - x[c] * back;
  } else {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) d_x[c] = d_y[c] * weight[c] * rstd - x[c] * back;
  }
}

}  // namespace

void rms_norm_cpu(const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, float eps, float offset) {
  int64_t C = x.cols();
  const float* w = norm_weight(weight, offset, C);
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(2 * C);
        const float* in = read_row(x, t, room);
        float* out = begin_row(y, t, room + C);
        float* r = rstd.f32() + t * rstd.row_stride;
        *r = 1.0f / std::sqrt(sum_of_squares_row(in, C) / static_cast<float>(C) + eps);
        scale_row(out, in, w, *r, C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void rms_norm_rebuild_cpu(const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight, float offset) {
  int64_t C = x.cols();
  const float* w = norm_weight(weight, offset, C);
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(2 * C);
        float* out = begin_row(y, t, room + C);
        scale_row(out, read_row(x, t, room), w, rstd.f32()[t * rstd.row_stride], C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void rms_norm_backward_cpu(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& rstd, const Tensor& weight, bool accumulate,
                           float offset) {
  int64_t C = x.cols();
  const float* w = norm_weight(weight, offset, C);
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(3 * C);
        const float *dy = read_row(d_y, t, room), *in = read_row(x, t, room + C);
        float* dx = begin_row(d_x, t, room + 2 * C);
        if (accumulate) read_row(d_x, t, dx);
        backward_row(dx, dy, in, w, rstd.f32()[t * rstd.row_stride], C, accumulate);
        finish_row(d_x, t, dx);
      },
      row_chunk(C));
}

}  // namespace loraine
