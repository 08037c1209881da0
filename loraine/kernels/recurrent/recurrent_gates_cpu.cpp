// The gates of recurrent mixers on the CPU, row by row.
#include <cmath>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/recurrent/recurrent_gates.h"

namespace loraine {
namespace {

LORAINE_CLONES void negative_size(float* y, const float* x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = -std::fabs(x[i]);
}

// softplus(x) = max(x, 0) + log(1 + e), e = e^−|x|; log(1 + e) = 2 artanh(s), s = e / (2 + e) ≤ 1/3, by its series.
LORAINE_CLONES void softplus_of(float* y, const float* x, const float* e, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float s = e[i] / (2.0f + e[i]), q = s * s;
    float sum = 1.0f / 15;
    sum = sum * q + 1.0f / 13;
    sum = sum * q + 1.0f / 11;
    sum = sum * q + 1.0f / 9;
    sum = sum * q + 1.0f / 7;
    sum = sum * q + 1.0f / 5;
    sum = sum * q + 1.0f / 3;
    sum = sum * q + 1.0f;
    y[i] = (x[i] > 0 ? x[i] : 0.0f) + 2.0f * s * sum;
  }
}

LORAINE_CLONES void add_row(float* y, const float* a, const float* b, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}

// y = d · factor / (1 + e), e = e^−x: what softplus passes on.
LORAINE_CLONES void through_softplus(float* y, const float* d, const float* e, float factor, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = d[i] * factor / (1.0f + e[i]);
}

LORAINE_CLONES void sigmoid_of(float* y, const float* e, float largest, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = largest / (1.0f + e[i]);
}

LORAINE_CLONES void through_sigmoid(float* y, const float* d, const float* s, float inverse, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = d[i] * s[i] * (1.0f - s[i] * inverse);
}

}  // namespace

void softplus_row(float* y, const float* x, int64_t n, float* room) {
  negative_size(room, x, n);
  exp_row(room, n, 1, 0);
  softplus_of(y, x, room, n);
}

void log_decay_cpu(const Tensor& g, const Tensor& a, const Tensor& A_log, const Tensor& dt_bias) {
  const int64_t N = a.cols(), H = A_log.numel(), width = N / H;
  parallel_for(
      a.rows(),
      [&](int64_t t) {
        float *room = row_room(2 * N), *out = g.f32() + t * g.row_stride;
        add_row(room, read_row(a, t, room), dt_bias.f32(), N);
        softplus_row(out, room, N, room + N);
        for (int64_t h = 0; h < H; ++h) scale_row(out + h * width, width, -std::exp(A_log.f32()[h]));
      },
      row_chunk(N));
}

void log_decay_backward_cpu(const Tensor& d_a, const Tensor& d_g, const Tensor& a, const Tensor& A_log, const Tensor& dt_bias) {
  const int64_t N = a.cols(), H = A_log.numel(), width = N / H;
  parallel_for(
      a.rows(),
      [&](int64_t t) {
        float *room = row_room(2 * N), *out = begin_row(d_a, t, room + N);
        add_row(room, read_row(a, t, room), dt_bias.f32(), N);
        exp_row(room, N, -1, 0);
        for (int64_t h = 0; h < H; ++h)
          through_softplus(out + h * width, d_g.f32() + t * d_g.row_stride + h * width, room + h * width, -std::exp(A_log.f32()[h]), width);
        finish_row(d_a, t, out);
      },
      row_chunk(N));
}

void write_strength_cpu(const Tensor& beta, const Tensor& b, float largest) {
  const int64_t N = b.cols();
  parallel_for(
      b.rows(),
      [&](int64_t t) {
        float* room = row_room(2 * N);
        exp_row(room, Dtype::F32, read_row(b, t, room + N), N, -1, 0);
        sigmoid_of(beta.f32() + t * beta.row_stride, room, largest, N);
      },
      row_chunk(N));
}

void write_strength_backward_cpu(const Tensor& d_b, const Tensor& d_beta, const Tensor& beta, float largest) {
  const int64_t N = beta.cols();
  parallel_for(
      beta.rows(),
      [&](int64_t t) {
        float* out = begin_row(d_b, t, row_room(N));
        through_sigmoid(out, d_beta.f32() + t * d_beta.row_stride, beta.f32() + t * beta.row_stride, 1 / largest, N);
        finish_row(d_b, t, out);
      },
      row_chunk(N));
}

}  // namespace loraine
