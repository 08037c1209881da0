// Memory-bound ops on the CPU, row by row.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/random_bits.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

LORAINE_CLONES void add_row(float* y, const float* a, const float* b, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] = a[c] + b[c];
}

// Element `first + c` is kept when its 32 random bits reach the threshold p · 2³².
LORAINE_CLONES void dropout_row(float* y, const float* x, int64_t C, uint64_t key, uint64_t first, uint64_t threshold, float scale) {
  for (int64_t c = 0; c < C; ++c) {
    uint64_t bits = mix_bits(key + (first + static_cast<uint64_t>(c)) * kGoldenRatio) >> 32;
    y[c] = bits >= threshold ? x[c] * scale : 0.0f;
  }
}

}  // namespace

void add_cpu(const Tensor& y, const Tensor& a, const Tensor& b) {
  int64_t C = y.cols();
  parallel_for(
      y.rows(),
      [&](int64_t t) {
        float* room = row_room(3 * C);
        float* out = begin_row(y, t, room);
        add_row(out, read_row(a, t, room + C), read_row(b, t, room + 2 * C), C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void add_rounded_cpu(const Tensor& sum, const Tensor& rounded, const Tensor& x) {
  const int64_t C = sum.cols();
  parallel_for(
      sum.rows(),
      [&](int64_t t) {
        float* row = begin_row(sum, t, nullptr);
        add_row(row, row, read_row(x, t, row_room(C)), C);
        write_row(rounded, t, row);
      },
      row_chunk(C));
}

void add_bias_cpu(const Tensor& y, const float* bias) {
  int64_t C = y.cols();
  parallel_for(
      y.rows(),
      [&](int64_t t) {
        float* out = begin_row(y, t, row_room(C));
        add_row(out, read_row(y, t, out), bias, C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void embedding_cpu(const Tensor& y, const Tensor& table, std::span<const int32_t> tokens) {
  const int64_t C = y.cols();
  parallel_for(
      y.rows(),
      [&](int64_t t) {
        float* out = begin_row(y, t, row_room(C));
        widen_row(out, table.row_range(tokens[static_cast<size_t>(t)], 1));
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void convert_rows_cpu(const Tensor& y, const Tensor& x) {
  parallel_for(
      y.rows(), [&](int64_t t) { write_row(y, t, read_row(x, t, row_room(x.cols()))); }, row_chunk(y.cols()));
}

void gather_rows_cpu(const Tensor& y, const Tensor& x, std::span<const int64_t> rows) {
  size_t bytes = static_cast<size_t>(x.cols()) * size_of(x.dtype);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(y.row_range(static_cast<int64_t>(i), 1).data, x.row_range(rows[i], 1).data, bytes);
  }
}

void scatter_rows_cpu(const Tensor& y, const Tensor& x, std::span<const int64_t> rows) {
  size_t bytes = static_cast<size_t>(y.cols()) * sizeof(float);
  for (int64_t t = 0; t < y.rows(); ++t) std::memset(y.f32() + t * y.row_stride, 0, bytes);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(y.f32() + rows[i] * y.row_stride, x.f32() + static_cast<int64_t>(i) * x.row_stride, bytes);
  }
}

void dropout_cpu(const Tensor& y, const Tensor& x, float p, uint64_t seed, uint64_t step, uint64_t site) {
  int64_t C = y.cols();
  uint64_t key = random_key(seed, step, site);
  uint64_t threshold = static_cast<uint64_t>(std::ldexp(static_cast<double>(p), 32));
  float scale = 1.0f / (1.0f - p);
  parallel_for(
      y.rows(),
      [&](int64_t t) {
        float* room = row_room(C);
        float* out = begin_row(y, t, room);
        dropout_row(out, read_row(x, t, room), C, key, static_cast<uint64_t>(t * C), threshold, scale);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

}  // namespace loraine
