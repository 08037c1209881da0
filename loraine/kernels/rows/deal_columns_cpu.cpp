// Columns dealt on the CPU, row by row.
#include <cstring>

#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/rows/deal_columns.h"

namespace loraine {
namespace {

void copy_columns(const Tensor& to, int64_t to_col, const Tensor& from, int64_t from_col, int64_t count) {
  std::memcpy(to.col_range(to_col, count).data, from.col_range(from_col, count).data, static_cast<size_t>(count) * size_of(to.dtype));
}

// copy(row, a value of the elements' type) of each row
template <class Copy>
void for_rows_of(const Tensor& t, Copy&& copy) {
  parallel_for(
      t.rows(),
      [&](int64_t row) {
        if (t.dtype == Dtype::F32) copy(row, float());
        else copy(row, bf16());
      },
      row_chunk(t.cols()));
}
template <class T>
T* row_of(const Tensor& t, int64_t row) {
  return static_cast<T*>(t.row_range(row, 1).data);
}

}  // namespace

void spread_columns_cpu(const Tensor& y, const Tensor& x, int64_t first, int64_t step) {
  for_rows_of(x, [&](int64_t row, auto element) {
    using T = decltype(element);
    const T* from = row_of<T>(x, row);
    T* to = row_of<T>(y, row) + first;
    for (int64_t i = 0; i < x.cols(); ++i) to[i * step] = from[i];
  });
}

void spread_columns_back_cpu(const Tensor& x, const Tensor& y, int64_t first, int64_t step) {
  for_rows_of(x, [&](int64_t row, auto element) {
    using T = decltype(element);
    const T* from = row_of<T>(y, row) + first;
    T* to = row_of<T>(x, row);
    for (int64_t i = 0; i < x.cols(); ++i) to[i] = from[i * step];
  });
}

void deal_columns_cpu(const Tensor& y, const Tensor& x, std::span<const ColumnBlock> blocks) {
  parallel_for(
      y.rows(),
      [&](int64_t t) {
        const Tensor to = y.row_range(t, 1), from = x.row_range(t, 1);
        for (const ColumnBlock& b : blocks) copy_columns(to, b.to, from, b.from, b.count);
      },
      row_chunk(y.cols()));
}

void deal_columns_back_cpu(const Tensor& x, const Tensor& y, std::span<const ColumnBlock> blocks) {
  parallel_for(
      y.rows(),
      [&](int64_t t) {
        const Tensor to = x.row_range(t, 1), from = y.row_range(t, 1);
        for (const ColumnBlock& b : blocks) copy_columns(to, b.from, from, b.to, b.count);
      },
      row_chunk(y.cols()));
}

}  // namespace loraine
