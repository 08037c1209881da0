// Columns dealt on the CPU, row by row.
#include <cstring>

#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/rows/deal_columns.h"

namespace loraine {
namespace {

void copy_columns(const Tensor& to, int64_t to_col, const Tensor& from, int64_t from_col, int64_t count) {
  std::memcpy(to.col_range(to_col, count).data, from.col_range(from_col, count).data, static_cast<size_t>(count) * size_of(to.dtype));
}

}  // namespace

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
