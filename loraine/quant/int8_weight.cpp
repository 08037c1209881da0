// Rounding of what INT8 weights are multiplied with, and what is left out of it.
#include "loraine/quant/int8_weight.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/products/int8_products.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {
namespace {

// Rounded rows of this thread, until its next call: [rows, cols] and their scales.
struct Rounded {
  Tensor q;
  float* scales;
  Int8Rows view() const { return {q, scales}; }
};
Rounded room(int64_t rows, int64_t cols) {
  thread_local Buffer memory;
  const size_t scales = static_cast<size_t>(rows) * sizeof(float), bytes = scales + static_cast<size_t>(rows * cols);
  if (memory.bytes() < bytes) memory = Buffer(bytes);
  return {Tensor(static_cast<char*>(memory.data()) + scales, Dtype::I8, {rows, cols}), static_cast<float*>(memory.data())};
}

// The columns whose largest number is at least kOutlier in size, those with the largest first when there are too many; ascending.
void choose_outliers(std::vector<int64_t>& columns, std::span<const float> largest) {
  columns.clear();
  for (size_t k = 0; k < largest.size(); ++k)
    if (largest[k] >= kOutlier) columns.push_back(static_cast<int64_t>(k));
  const size_t most = largest.size() / kColumnsPerOutlier;
  if (columns.size() <= most) return;
  std::ranges::stable_sort(columns,
                           [&](int64_t a, int64_t b) { return largest[static_cast<size_t>(a)] > largest[static_cast<size_t>(b)]; });
  columns.resize(most);
  std::ranges::sort(columns);
}

std::vector<int64_t> outlier_columns(const Tensor& x) {
  const int64_t T = x.rows(), K = x.cols();
  std::vector<float> largest(static_cast<size_t>(K));
  constexpr int64_t kColumns = 64;
  parallel_for((K + kColumns - 1) / kColumns, [&](int64_t piece) {
    const int64_t first = piece * kColumns, count = std::min(kColumns, K - first);
    float room[kColumns];
    for (int64_t t = 0; t < T; ++t) {
      const float* row = read_row(x.col_range(first, count), t, room);
      for (int64_t c = 0; c < count; ++c)
        largest[static_cast<size_t>(first + c)] = std::max(largest[static_cast<size_t>(first + c)], std::fabs(row[c]));
    }
  });
  std::vector<int64_t> columns;
  choose_outliers(columns, largest);
  return columns;
}

// y += the columns of x times those of the weight.
void add_columns(Context& ctx, const Tensor& y, std::span<const Tensor> parts, const Tensor& x, const std::vector<int64_t>& columns) {
  const int64_t T = x.rows(), n = static_cast<int64_t>(columns.size());
  thread_local Buffer memory;
  const size_t bytes = static_cast<size_t>((T + y.cols()) * n) * sizeof(float);
  if (memory.bytes() < bytes) memory = Buffer(bytes);
  const Tensor xs(memory.data(), Dtype::F32, {T, n});
  const Tensor ws(xs.f32() + T * n, Dtype::F32, {y.cols(), n});
  parallel_for(
      T,
      [&](int64_t t) {
        const float* row = read_row(x, t, row_room(x.cols()));
        for (int64_t i = 0; i < n; ++i) xs.f32()[t * n + i] = row[columns[static_cast<size_t>(i)]];
      },
      row_chunk(x.cols()));
  int64_t first = 0;
  for (const Tensor& part : parts) {
    const Tensor own = ws.row_range(first, part.rows());
    parallel_for(
        own.rows(),
        [&](int64_t r) {
          const int8_t* codes = static_cast<const int8_t*>(part.data) + r * part.row_stride;
          float scale;
          row_scales(&scale, part.row_range(r, 1));
          for (int64_t i = 0; i < n; ++i) own.f32()[r * n + i] = static_cast<float>(codes[columns[static_cast<size_t>(i)]]) * scale;
        },
        row_chunk(n));
    first += own.rows();
  }
  matmul_nt(ctx, y, xs, ws, 1, 1);
}

// Rounds each row but for its outliers, which are kept beside.
void multiply_few_rows(Context& ctx, const Tensor& y, std::span<const Tensor> parts, const Tensor& x) {
  thread_local Buffer memory;
  thread_local ExactTerms exact;
  thread_local std::vector<float> sizes;
  thread_local std::vector<int64_t> columns;
  const int64_t T = x.rows(), K = x.cols();
  const size_t bytes = static_cast<size_t>(T * K) * sizeof(float);
  if (memory.bytes() < bytes) memory = Buffer(bytes);
  const Tensor rest(memory.data(), Dtype::F32, {T, K});
  exact.first.assign(1, 0);
  exact.columns.clear();
  exact.values.clear();
  sizes.resize(static_cast<size_t>(K));
  for (int64_t t = 0; t < T; ++t) {
    float* row = rest.f32() + t * K;
    widen_row(row, x.row_range(t, 1));
    for (int64_t k = 0; k < K; ++k) sizes[static_cast<size_t>(k)] = std::fabs(row[k]);
    choose_outliers(columns, sizes);
    for (const int64_t k : columns) {
      exact.columns.push_back(k);
      exact.values.push_back(row[k]);
      row[k] = 0;
    }
    exact.first.push_back(exact.columns.size());
  }
  const Rounded rows = room(T, K);
  quantise_rows(ctx, rows.q, rows.scales, rest);
  int8_matmul_few_rows(ctx, y, rows.view(), exact, parts);
}

}  // namespace

void multiply_int8(Context& ctx, const Tensor& y, std::span<const Tensor> parts, const Tensor& x) {
  if (x.rows() <= kFewRows) return multiply_few_rows(ctx, y, parts, x);
  const Rounded rows = room(x.rows(), x.cols());
  const std::vector<int64_t> outliers = outlier_columns(x);
  thread_local std::vector<float> factors;
  if (!outliers.empty()) factors.assign(static_cast<size_t>(x.cols()), 1.0f);
  for (const int64_t column : outliers) factors[static_cast<size_t>(column)] = 0;
  quantise_rows(ctx, rows.q, rows.scales, x, outliers.empty() ? nullptr : factors.data());
  int8_matmul_nt(ctx, y, rows.view(), parts);
  if (!outliers.empty()) add_columns(ctx, y, parts, x, outliers);
}

void multiply_int8_backward(Context& ctx, const Tensor& d_x, std::span<const Tensor> parts, const Tensor& d_y, bool accumulate) {
  thread_local std::vector<float> scales;
  scales.resize(static_cast<size_t>(d_y.cols()));
  float* next = scales.data();
  for (const Tensor& part : parts) {
    row_scales(next, part);
    next += part.rows();
  }
  const Rounded rows = room(d_y.rows(), d_y.cols());
  quantise_rows(ctx, rows.q, rows.scales, d_y, scales.data());
  int8_matmul_nn(ctx, d_x, rows.view(), parts, accumulate ? 1.0f : 0.0f);
}

size_t int8_weight_scratch(int64_t rows, int64_t widest) {
  const int64_t outliers = widest / kColumnsPerOutlier;
  const int64_t beside = rows <= kFewRows ? 2 * rows * widest : (rows + widest) * outliers;  // few rows in f32 and in 16 bits, or columns
  return static_cast<size_t>(rows * widest) + static_cast<size_t>(rows + beside) * sizeof(float) +
         static_cast<size_t>(thread_count()) * int8_scratch_bytes(widest);
}

}  // namespace loraine
