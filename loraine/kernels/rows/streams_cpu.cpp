// Ops on streams on the CPU, row by row; mixing goes along a row in pieces that stay near the processor.
#include <algorithm>
#include <cmath>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/rows/streams.h"

namespace loraine {
namespace {

constexpr int64_t kPiece = 512;

LORAINE_CLONES void times_row(float* y, const float* x, float factor, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] = factor * x[c];
}
LORAINE_CLONES void add_times_row(float* y, const float* x, float factor, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] += factor * x[c];
}
LORAINE_CLONES float dot_row(const float* a, const float* b, int64_t C) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < C; ++c) sum += a[c] * b[c];
  return sum;
}
// y = a · x + b · p
LORAINE_CLONES void sum_row(float* y, const float* x, float a, const float* p, float b, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] = a * x[c] + b * p[c];
}

float size_of_row(const float* x, int64_t C) { return std::sqrt(dot_row(x, x, C) / static_cast<float>(C)); }

}  // namespace

void mix_streams_cpu(std::span<const Tensor> out, std::span<const Tensor> in, const Tensor& factors, bool transposed) {
  const size_t m = out.size(), n = in.size();
  const int64_t C = in[0].cols();
  parallel_for(
      in[0].rows(),
      [&](int64_t t) {
        const float* factor = factors.f32() + t * factors.row_stride;
        float* room = row_room(static_cast<int64_t>(m + n) * kPiece);
        for (int64_t first = 0; first < C; first += kPiece) {
          const int64_t columns = std::min(kPiece, C - first);
          const float* read[kMostStreams];
          for (size_t i = 0; i < n; ++i)
            read[i] = read_row(in[i].col_range(first, columns), t, room + static_cast<int64_t>(m + i) * kPiece);
          for (size_t j = 0; j < m; ++j) {
            float* sum = room + static_cast<int64_t>(j) * kPiece;
            for (size_t i = 0; i < n; ++i) {
              const float by = factor[transposed ? i * m + j : j * n + i];
              if (i == 0) times_row(sum, read[i], by, columns);
              else add_times_row(sum, read[i], by, columns);
            }
          }
          for (size_t j = 0; j < m; ++j) write_row(out[j].col_range(first, columns), t, room + static_cast<int64_t>(j) * kPiece);
        }
      },
      row_chunk(C * static_cast<int64_t>(m + n)));
}

void mix_streams_factors_cpu(const Tensor& d_factors, std::span<const Tensor> d_out, std::span<const Tensor> in) {
  const size_t m = d_out.size(), n = in.size();
  const int64_t C = in[0].cols();
  parallel_for(
      in[0].rows(),
      [&](int64_t t) {
        float* room = row_room(static_cast<int64_t>(n + 1) * C);
        float* d = d_factors.f32() + t * d_factors.row_stride;
        const float* read[kMostStreams];
        for (size_t i = 0; i < n; ++i) read[i] = read_row(in[i], t, room + static_cast<int64_t>(i + 1) * C);
        for (size_t j = 0; j < m; ++j) {
          const float* of_out = read_row(d_out[j], t, room);
          for (size_t i = 0; i < n; ++i) d[j * n + i] = dot_row(of_out, read[i], C);
        }
      },
      row_chunk(C * static_cast<int64_t>(m + n)));
}

void match_size_cpu(const Tensor& y, const Tensor& p, const Tensor& x, float least) {
  const int64_t C = x.cols();
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(3 * C);
        const float *from = read_row(p, t, room), *like = read_row(x, t, room + C);
        float* out = begin_row(y, t, room + 2 * C);
        const float mean = dot_row(from, from, C) / static_cast<float>(C);
        times_row(out, from, size_of_row(like, C) / std::sqrt(std::max(mean, least)), C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

// With a and b the sizes of x and p: d_p = a/b · (d_y − p · (d_y · p) / (C b²)), d_x = x · (d_y · p) / (C a b); at the least b is constant.
void match_size_backward_cpu(const Tensor& d_p, const Tensor& d_x, const Tensor& d_y, const Tensor& p, const Tensor& x, float least) {
  const int64_t C = x.cols();
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(4 * C);
        const float *from = read_row(p, t, room), *like = read_row(x, t, room + C), *d = read_row(d_y, t, room + 2 * C);
        float* out = begin_row(d_p, t, room + 3 * C);
        const float mean = dot_row(from, from, C) / static_cast<float>(C), b = std::sqrt(std::max(mean, least)), a = size_of_row(like, C),
                    dot = dot_row(d, from, C) / static_cast<float>(C);
        sum_row(out, d, a / b, from, mean > least ? -a * dot / (b * b * b) : 0, C);
        finish_row(d_p, t, out);
        if (d_x.data && a > 0) add_times_row(d_x.f32() + t * d_x.row_stride, like, dot / (a * b), C);
      },
      row_chunk(C));
}

}  // namespace loraine
