// Rounding of what INT8 weights are multiplied with, and what is left out of it.
#include "loraine/quant/int8_weight.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "loraine/kernels/int8_products.h"
#include "loraine/kernels/matmul.h"
#include "loraine/kernels/parallel.h"
#include "loraine/kernels/rows.h"

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

// The columns of x [T, K] that hold something of at least kOutlier in size, those with the largest first when there are too many;
// ascending.
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
  for (int64_t k = 0; k < K; ++k)
    if (largest[static_cast<size_t>(k)] >= kOutlier) columns.push_back(k);
  const size_t most = static_cast<size_t>(K / kColumnsPerOutlier);
  if (columns.size() <= most) return columns;
  std::ranges::stable_sort(columns,
                           [&](int64_t a, int64_t b) { return largest[static_cast<size_t>(a)] > largest[static_cast<size_t>(b)]; });
  columns.resize(most);
  std::ranges::sort(columns);
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

}  // namespace

void multiply_int8(Context& ctx, const Tensor& y, std::span<const Tensor> parts, const Tensor& x) {
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
  return static_cast<size_t>(rows * widest) + static_cast<size_t>(rows + (rows + widest) * outliers) * sizeof(float) +
         static_cast<size_t>(thread_count()) * int8_scratch_bytes(widest);
}

}  // namespace loraine
