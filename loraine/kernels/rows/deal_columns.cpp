// Checks of dealt columns and the choice of device.
#include "loraine/kernels/rows/deal_columns.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void deal_columns_cpu(const Tensor& y, const Tensor& x, std::span<const ColumnBlock> blocks);
void deal_columns_back_cpu(const Tensor& x, const Tensor& y, std::span<const ColumnBlock> blocks);
void spread_columns_cpu(const Tensor& y, const Tensor& x, int64_t first, int64_t step);
void spread_columns_back_cpu(const Tensor& x, const Tensor& y, int64_t first, int64_t step);

namespace {
void check_spread(const char* op, const Tensor& y, const Tensor& x, int64_t first, int64_t step) {
  check_activation(op, "x", x, y.rows(), x.cols());
  check_op(x.dtype == y.dtype, op, "x and y must be of one type");
  check_op(first >= 0 && step > 0 && first + (x.cols() - 1) * step < y.cols(), op, "the columns reach beyond y");
}
void check(const char* op, const Tensor& y, const Tensor& x, std::span<const ColumnBlock> blocks) {
  check_activation(op, "x", x, y.rows(), x.cols());
  check_op(x.dtype == y.dtype, op, "x and y must be of one type");
  for (const ColumnBlock& b : blocks) {
    if (b.count >= 0 && b.from >= 0 && b.to >= 0 && b.from + b.count <= x.cols() && b.to + b.count <= y.cols()) continue;
    throw Error(ErrorKind::internal, fmt::format("{}: {} columns from {} to {} reach beyond x {} or y {}", op, b.count, b.from, b.to,
                                                 x.shape_text(), y.shape_text()));
  }
}
}  // namespace

void deal_columns(Context& ctx, const Tensor& y, const Tensor& x, std::span<const ColumnBlock> blocks) {
  check("deal_columns", y, x, blocks);
  dispatch(ctx, "deal_columns", [&] { deal_columns_cpu(y, x, blocks); });
}

void deal_columns_back(Context& ctx, const Tensor& x, const Tensor& y, std::span<const ColumnBlock> blocks) {
  check("deal_columns_back", y, x, blocks);
  dispatch(ctx, "deal_columns_back", [&] { deal_columns_back_cpu(x, y, blocks); });
}

void spread_columns(Context& ctx, const Tensor& y, const Tensor& x, int64_t first, int64_t step) {
  check_spread("spread_columns", y, x, first, step);
  dispatch(ctx, "spread_columns", [&] { spread_columns_cpu(y, x, first, step); });
}

void spread_columns_back(Context& ctx, const Tensor& x, const Tensor& y, int64_t first, int64_t step) {
  check_spread("spread_columns_back", y, x, first, step);
  dispatch(ctx, "spread_columns_back", [&] { spread_columns_back_cpu(x, y, first, step); });
}

}  // namespace loraine
