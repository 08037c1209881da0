// RMSNorm on the CPU, row by row.
#include <cmath>

#include "loraine/core/tensor.h"
#include "loraine/kernels/parallel.h"
#include "loraine/kernels/simd.h"

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

void rms_norm_cpu(const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, float eps) {
  int64_t C = x.cols();
  float *out = y.f32(), *r = rstd.f32();
  const float *in = x.f32(), *w = weight.f32();
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* rt = r + t * rstd.row_stride;
        *rt = 1.0f / std::sqrt(sum_of_squares_row(in + t * x.row_stride, C) / static_cast<float>(C) + eps);
        scale_row(out + t * y.row_stride, in + t * x.row_stride, w, *rt, C);
      },
      row_chunk(C));
}

void rms_norm_rebuild_cpu(const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight) {
  int64_t C = x.cols();
  float* out = y.f32();
  const float *in = x.f32(), *w = weight.f32(), *r = rstd.f32();
  parallel_for(
      x.rows(), [&](int64_t t) { scale_row(out + t * y.row_stride, in + t * x.row_stride, w, r[t * rstd.row_stride], C); }, row_chunk(C));
}

void rms_norm_backward_cpu(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& rstd, const Tensor& weight,
                           bool accumulate) {
  int64_t C = x.cols();
  float* dx = d_x.f32();
  const float *dy = d_y.f32(), *in = x.f32(), *w = weight.f32(), *r = rstd.f32();
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        backward_row(dx + t * d_x.row_stride, dy + t * d_y.row_stride, in + t * x.row_stride, w, r[t * rstd.row_stride], C, accumulate);
      },
      row_chunk(C));
}

}  // namespace loraine
