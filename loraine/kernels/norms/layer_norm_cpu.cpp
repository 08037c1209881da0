// LayerNorm on the CPU, row by row.
#include <cmath>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/norms/norm_weight.h"

namespace loraine {
namespace {

LORAINE_CLONES float sum_row(const float* x, int64_t C) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < C; ++c) sum += x[c];
  return sum;
}

LORAINE_CLONES float sum_of_squares_from(const float* x, float mean, int64_t C) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < C; ++c) sum += (x[c] - mean) * (x[c] - mean);
  return sum;
}

LORAINE_CLONES void normalise_row(float* y, const float* x, const float* weight, const float* bias, float mean, float rstd, int64_t C) {
  if (bias) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) y[c] = (x[c] - mean) * rstd * weight[c] + bias[c];
  } else {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) y[c] = (x[c] - mean) * rstd * weight[c];
  }
}

// With n = (x − mean) · rstd and g = d_y · weight: d_x = rstd · (g − mean(g) − n · mean(g · n)).
LORAINE_CLONES void backward_row(float* d_x, const float* d_y, const float* x, const float* weight, float mean, float rstd, int64_t C,
                                 bool accumulate) {
  float sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
  for (int64_t c = 0; c < C; ++c) {
    const float g = d_y[c] * weight[c];
    sum += g;
    dot += g * (x[c] - mean);
  }
  const float size = static_cast<float>(C), level = sum * rstd / size, back = dot * rstd * rstd * rstd / size;
  if (accumulate) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) d_x[c] += d_y[c] * weight[c] * rstd - level - (x[c] - mean) * back;
  } else {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) d_x[c] = d_y[c] * weight[c] * rstd - level - (x[c] - mean) * back;
  }
}

const float* bias_row(const Tensor& bias) { return bias.data ? bias.f32() : nullptr; }

}  // namespace

void layer_norm_cpu(const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x, const Tensor& weight, const Tensor& bias,
                    float eps, float offset) {
  const int64_t C = x.cols();
  const float *w = norm_weight(weight, offset, C), *b = bias_row(bias);
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(2 * C);
        const float* in = read_row(x, t, room);
        float* out = begin_row(y, t, room + C);
        float *m = mean.f32() + t * mean.row_stride, *r = rstd.f32() + t * rstd.row_stride;
        *m = sum_row(in, C) / static_cast<float>(C);
        *r = 1.0f / std::sqrt(sum_of_squares_from(in, *m, C) / static_cast<float>(C) + eps);
        normalise_row(out, in, w, b, *m, *r, C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void layer_norm_rebuild_cpu(const Tensor& y, const Tensor& x, const Tensor& mean, const Tensor& rstd, const Tensor& weight,
                            const Tensor& bias, float offset) {
  const int64_t C = x.cols();
  const float *w = norm_weight(weight, offset, C), *b = bias_row(bias);
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(2 * C);
        float* out = begin_row(y, t, room + C);
        normalise_row(out, read_row(x, t, room), w, b, mean.f32()[t * mean.row_stride], rstd.f32()[t * rstd.row_stride], C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void layer_norm_backward_cpu(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& mean, const Tensor& rstd,
                             const Tensor& weight, float offset, bool accumulate) {
  const int64_t C = x.cols();
  const float* w = norm_weight(weight, offset, C);
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(3 * C);
        const float *dy = read_row(d_y, t, room), *in = read_row(x, t, room + C);
        float* dx = begin_row(d_x, t, room + 2 * C);
        if (accumulate) read_row(d_x, t, dx);
        backward_row(dx, dy, in, w, mean.f32()[t * mean.row_stride], rstd.f32()[t * rstd.row_stride], C, accumulate);
        finish_row(d_x, t, dx);
      },
      row_chunk(C));
}

}  // namespace loraine
