// Rows to int8, and tiles of integer sums that are scaled on the way out.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/products/int8_dots.h"
#include "loraine/kernels/products/int8_products.h"
#include "loraine/kernels/products/library_product.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/sgemm.h"

namespace loraine {
namespace {

constexpr int64_t kTileM = 256, kTileN = 192;
constexpr int64_t kWholeRows = 64;  // the library gets multiples of it, so that the number of its primitives stays bounded
// In f32 sums of so many products of at most 127 · 127 are exact: they stay below 2^24.
constexpr int64_t kExactTerms = 1024;
constexpr float kLowestMax = 1e-36f;  // 127 / it is still finite

int64_t pieces(int64_t size, int64_t piece) { return (size + piece - 1) / piece; }

LORAINE_CLONES void multiply_row(float* out, const float* x, const float* factors, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = factors[i] == 0 ? 0 : x[i] * factors[i];
}

// The largest magnitude; NaN and infinity are above all others.
LORAINE_CLONES float largest(const float* x, int64_t n) {
  uint32_t most = 0;
  for (int64_t i = 0; i < n; ++i) most = std::max(most, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return std::bit_cast<float>(most);
}

// Adding 1.5 · 2^23 leaves the rounded number in the lowest bits.
LORAINE_CLONES void round_row(int8_t* q, const float* x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) q[i] = static_cast<int8_t>(std::bit_cast<uint32_t>(x[i] * factor + 12582912.0f));
}

LORAINE_CLONES void widen_int8(float* out, const int8_t* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(x[i]);
}

LORAINE_CLONES void widen_to_16(int16_t* out, const int8_t* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = x[i];
}
// out[i] += value · column[i · stride]
void add_column(float* out, const int8_t* column, int64_t stride, float value, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += value * static_cast<float>(column[i * stride]);
}

LORAINE_CLONES void add_exact(int32_t* sums, const float* more, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sums[i] += static_cast<int32_t>(more[i]);
}
LORAINE_CLONES void add_integers(int32_t* sums, const int32_t* more, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sums[i] += more[i];
}

LORAINE_CLONES void scale_sums(float* out, const int32_t* sums, const float* columns, float row, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(sums[i]) * columns[i] * row;
}
LORAINE_CLONES void add_scaled_sums(float* out, const int32_t* sums, const float* columns, float row, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] += static_cast<float>(sums[i]) * columns[i] * row;
}

// Memory of one thread that grows to what a tile needs.
Tensor take(Buffer& memory, Dtype dtype, int64_t rows, int64_t cols) {
  const size_t bytes = static_cast<size_t>(rows * cols) * size_of(dtype);
  if (memory.bytes() < bytes) memory = Buffer(bytes);
  return Tensor(memory.data(), dtype, {rows, cols});
}

Tensor widened(const Tensor& x, Buffer& memory) {
  const Tensor out = take(memory, Dtype::F32, x.rows(), x.cols());
  for (int64_t r = 0; r < x.rows(); ++r)
    widen_int8(out.f32() + r * x.cols(), static_cast<const int8_t*>(x.data) + r * x.row_stride, x.cols());
  return out;
}

Tensor columns_of(const Tensor& t, bool transposed, int64_t first, int64_t count) {
  return transposed ? t.col_range(first, count) : t.row_range(first, count);
}

// sums [m, n] = x op(w), without integer instructions.
void exact_f32_tile(const Tensor& sums, const Tensor& x, const Tensor& w, bool w_t) {
  thread_local Buffer x_memory, w_memory, y_memory;
  std::memset(sums.data, 0, sums.bytes());
  for (int64_t k = 0; k < x.cols(); k += kExactTerms) {
    const int64_t count = std::min(kExactTerms, x.cols() - k);
    const Tensor a = widened(x.col_range(k, count), x_memory), b = widened(columns_of(w, w_t, k, count), w_memory),
                 c = take(y_memory, Dtype::F32, sums.rows(), sums.cols());
    sgemm_tile(false, w_t, c.rows(), c.cols(), count, 1, a.f32(), a.cols(), b.f32(), b.cols(), 0, c.f32(), c.cols());
    add_exact(static_cast<int32_t*>(sums.data), c.f32(), sums.numel());
  }
}

// sums [m, n] = x op(w); they have room for whole rows.
void integer_tile(const Tensor& sums, const Tensor& x, const Tensor& w, bool w_t) {
  static const bool has_int8 = has_int8_products();
  if (!has_int8) return exact_f32_tile(sums.row_range(0, x.rows()), x, w, w_t);
  const int64_t whole = x.rows() / kWholeRows * kWholeRows, rest = x.rows() - whole;
  if (whole > 0) int8_tile(sums.row_range(0, whole), x.row_range(0, whole), w, w_t);
  if (rest == 0) return;
  thread_local Buffer memory;
  const Tensor last = take(memory, Dtype::I8, kWholeRows, x.cols());
  std::memset(last.data, 0, last.bytes());
  for (int64_t r = 0; r < rest; ++r) std::memcpy(last.row_range(r, 1).data, x.row_range(whole + r, 1).data, static_cast<size_t>(x.cols()));
  int8_tile(sums.row_range(whole, kWholeRows), last, w, w_t);
}

// What the tiles of one y add up, over K.
struct Term {
  Tensor x, w;
};
struct Job {
  Tensor y;
  std::span<const Term> terms;
};

void finish_tile(const Tensor& y, const Tensor& sums, const float* row_scales, const float* columns, float beta) {
  float room[kTileN];
  for (int64_t m = 0; m < y.rows(); ++m) {
    const int32_t* row = static_cast<const int32_t*>(sums.data) + m * sums.row_stride;
    float* out = begin_row(y, m, room);
    if (beta == 0) {
      scale_sums(out, row, columns, row_scales[m], y.cols());
    } else {
      read_row(y, m, out);
      add_scaled_sums(out, row, columns, row_scales[m], y.cols());
    }
    finish_row(y, m, out);
  }
}

// All tiles of all jobs, whose y have the same rows, in one parallel loop. With w_t the columns of y have the scales of w's rows. Sums are
// exact, so no cut of them shows.
void run(std::span<const Job> jobs, const float* x_scales, bool w_t, float beta) {
  constexpr int64_t kEnoughTiles = 8, kFewest = 128;
  auto tiles_of = [](const Job& job) { return pieces(job.y.cols(), kTileN); };
  int64_t tiles_n = 0;
  for (const Job& job : jobs) tiles_n += tiles_of(job);
  const int64_t M = jobs[0].y.rows();
  int64_t rows = kTileM;
  while (rows > kFewest && pieces(M, rows) * tiles_n < kEnoughTiles) rows /= 2;
  const int64_t tiles_m = pieces(M, rows);
  parallel_for(tiles_m * tiles_n, [&](int64_t i) {
    thread_local Buffer memory, more_memory;
    const int64_t m0 = i % tiles_m * rows, m = std::min(rows, M - m0);
    int64_t tile = i / tiles_m;
    const Job* job = jobs.data();
    for (; tile >= tiles_of(*job); ++job) tile -= tiles_of(*job);
    const int64_t n0 = tile * kTileN, n = std::min(kTileN, job->y.cols() - n0);
    const int64_t whole = pieces(m, kWholeRows) * kWholeRows;
    const Tensor sums = take(memory, Dtype::I32, whole, n);
    for (const Term& term : job->terms) {
      const bool first = &term == job->terms.data();
      const Tensor own = first ? sums : take(more_memory, Dtype::I32, whole, n);
      integer_tile(own, term.x.row_range(m0, m), columns_of(term.w, !w_t, n0, n), w_t);
      if (!first) add_integers(static_cast<int32_t*>(sums.data), static_cast<const int32_t*>(own.data), m * n);
    }
    float columns[kTileN];
    if (w_t) row_scales(columns, job->terms[0].w.row_range(n0, n));
    else std::fill_n(columns, n, 1.0f);
    finish_tile(job->y.row_range(m0, m).col_range(n0, n), sums, x_scales + m0, columns, beta);
  });
}

// y [M, n] of n rows of w, at most kDotRows, and M rows of x.
constexpr int64_t kDotRows = 32;
void few_rows_block(const Tensor& y, const Tensor& w, const int16_t* x, const float* x_scales, const ExactTerms& exact) {
  int32_t sums[kFewRows * kDotRows];
  float scales[kDotRows], room[kDotRows], more[kDotRows];
  const int64_t n = w.rows();
  int8_dots(sums, kDotRows, w, x, y.rows());
  row_scales(scales, w);
  for (int64_t m = 0; m < y.rows(); ++m) {
    float* out = begin_row(y, m, room);
    scale_sums(out, sums + m * kDotRows, scales, x_scales[m], n);
    const size_t last = exact.first[static_cast<size_t>(m) + 1];
    size_t i = exact.first[static_cast<size_t>(m)];
    if (i < last) {
      std::fill_n(more, n, 0.0f);
      for (; i < last; ++i) add_column(more, static_cast<const int8_t*>(w.data) + exact.columns[i], w.row_stride, exact.values[i], n);
      multiply_row(more, more, scales, n);
      for (int64_t r = 0; r < n; ++r) out[r] += more[r];
    }
    finish_row(y, m, out);
  }
}

}  // namespace

size_t int8_scratch_bytes(int64_t K) {
  const size_t sums = 2 * static_cast<size_t>(kTileM * kTileN) * sizeof(int32_t);
  if (has_int8_products()) return sums + static_cast<size_t>(kWholeRows * K);
  return sums + sums / 2 + static_cast<size_t>((kTileM + kTileN) * std::min(K, kExactTerms)) * sizeof(float);
}

void quantise_rows_cpu(const Tensor& q, float* scales, const Tensor& x, const float* column_factors) {
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(x.cols());
        const float* row = read_row(x, t, room);
        if (column_factors) {
          multiply_row(room, row, column_factors, x.cols());
          row = room;
        }
        int8_t* out = static_cast<int8_t*>(q.data) + t * q.row_stride;
        const float most = largest(row, x.cols());
        if (!std::isfinite(most) || most < kLowestMax) {
          scales[t] = std::isfinite(most) ? 0 : std::numeric_limits<float>::quiet_NaN();
          std::fill_n(out, x.cols(), int8_t{0});
          return;
        }
        scales[t] = most / 127;
        round_row(out, row, 127 / most, x.cols());
      },
      row_chunk(x.cols()));
}

void int8_matmul_nt_cpu(const Tensor& y, const Int8Rows& x, std::span<const Tensor> parts) {
  std::vector<Term> terms;
  std::vector<Job> jobs;
  terms.reserve(parts.size());
  int64_t column = 0;
  for (const Tensor& w : parts) {
    terms.push_back({x.q, w});
    jobs.push_back({y.col_range(column, w.rows()), std::span(&terms.back(), 1)});
    column += w.rows();
  }
  run(jobs, x.scales, true, 0);
}

void int8_matmul_few_rows_cpu(const Tensor& y, const Int8Rows& x, const ExactTerms& exact, std::span<const Tensor> parts) {
  thread_local std::vector<int16_t> memory;
  const int64_t M = x.q.rows(), K = x.q.cols();
  memory.resize(static_cast<size_t>(M * K));
  for (int64_t m = 0; m < M; ++m) widen_to_16(memory.data() + m * K, static_cast<const int8_t*>(x.q.data) + m * x.q.row_stride, K);
  const int16_t* rows = memory.data();
  int64_t blocks = 0;
  for (const Tensor& w : parts) blocks += pieces(w.rows(), kDotRows);
  const int64_t chunk = std::max<int64_t>(1, 65536 / (kDotRows * M * K + 1));
  parallel_for<Take::shares>(
      blocks,
      [&](int64_t b) {
        int64_t column = 0;
        const Tensor* w = parts.data();
        for (; b >= pieces(w->rows(), kDotRows); ++w) {
          b -= pieces(w->rows(), kDotRows);
          column += w->rows();
        }
        const int64_t n0 = b * kDotRows, n = std::min(kDotRows, w->rows() - n0);
        few_rows_block(y.col_range(column + n0, n), w->row_range(n0, n), rows, x.scales, exact);
      },
      chunk);
}

void int8_matmul_nn_cpu(const Tensor& y, const Int8Rows& x, std::span<const Tensor> parts, float beta) {
  std::vector<Term> terms;
  int64_t column = 0;
  for (const Tensor& w : parts) {
    terms.push_back({x.q.col_range(column, w.rows()), w});
    column += w.rows();
  }
  const Job job{y, terms};
  run(std::span(&job, 1), x.scales, false, beta);
}

}  // namespace loraine
