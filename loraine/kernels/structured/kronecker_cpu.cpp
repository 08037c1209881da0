// Kronecker products on the CPU: row by row, and the gradients of both factors by their rows.
#include <algorithm>
#include <cstdint>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

LORAINE_CLONES float dot_of(const float* a, const float* b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

LORAINE_CLONES void add_times(float* y, const float* x, float factor, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

}  // namespace

void kronecker_cpu(const Tensor& y, const Tensor& u, const Tensor& x, const Tensor& w1, const Tensor& w2, float scale) {
  const int64_t A = w1.rows(), B = w1.cols(), C = w2.rows(), D = w2.cols();
  parallel_for(x.rows(), [&](int64_t t) {
    float* room = row_room(A * C + B * C + B * D);
    float *out = begin_row(y, t, room), *inner = begin_row(u, t, room + A * C);
    const float* in = read_row(x, t, room + A * C + B * C);
    read_row(y, t, out);
    for (int64_t b = 0; b < B; ++b)
      for (int64_t c = 0; c < C; ++c) inner[b * C + c] = dot_of(w2.f32() + c * D, in + b * D, D);
    for (int64_t a = 0; a < A; ++a)
      for (int64_t b = 0; b < B; ++b) add_times(out + a * C, inner + b * C, scale * w1.f32()[a * B + b], C);
    finish_row(u, t, inner);
    finish_row(y, t, out);
  });
}

void kronecker_backward_cpu(const Tensor& d_x, const Tensor& d_w1, const Tensor& d_w2, const Tensor& d_u, const Tensor& d_y,
                            const Tensor& x, const Tensor& u, const Tensor& w1, const Tensor& w2, float scale) {
  const int64_t A = w1.rows(), B = w1.cols(), C = w2.rows(), D = w2.cols(), T = x.rows();
  parallel_for(T, [&](int64_t t) {
    float* room = row_room(B * C + A * C + B * D);
    float* d_inner = begin_row(d_u, t, room);
    const float* d_out = read_row(d_y, t, room + B * C);
    std::fill_n(d_inner, B * C, 0.0f);
    for (int64_t a = 0; a < A; ++a)
      for (int64_t b = 0; b < B; ++b) add_times(d_inner + b * C, d_out + a * C, scale * w1.f32()[a * B + b], C);
    finish_row(d_u, t, d_inner);
    if (!d_x.data) return;
    float* d_in = begin_row(d_x, t, room + B * C + A * C);
    read_row(d_x, t, d_in);
    for (int64_t b = 0; b < B; ++b)
      for (int64_t c = 0; c < C; ++c) add_times(d_in + b * D, w2.f32() + c * D, d_inner[b * C + c], D);
    finish_row(d_x, t, d_in);
  });
  parallel_for(A, [&](int64_t a) {
    float* room = row_room(C + B * C);
    const Tensor d_piece = d_y.col_range(a * C, C);
    for (int64_t t = 0; t < T; ++t) {
      const float *d_out = read_row(d_piece, t, room), *inner = read_row(u, t, room + C);
      for (int64_t b = 0; b < B; ++b) d_w1.f32()[a * B + b] += scale * dot_of(d_out, inner + b * C, C);
    }
  });
  parallel_for(C, [&](int64_t c) {
    float* room = row_room(B * C + B * D);
    for (int64_t t = 0; t < T; ++t) {
      const float *d_inner = read_row(d_u, t, room), *in = read_row(x, t, room + B * C);
      for (int64_t b = 0; b < B; ++b) add_times(d_w2.f32() + c * D, in + b * D, d_inner[b * C + c], D);
    }
  });
}

}  // namespace loraine
