// Checks of the sums over pieces of rows and the choice of device.
#include "loraine/kernels/structured/fold.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void fold_columns_cpu(const Tensor& y, const Tensor& x);
void unfold_columns_cpu(const Tensor& y, const Tensor& x);

namespace {
void check_fold(const char* op, const Tensor& wide, const Tensor& narrow) {
  check_activation(op, "the wide rows", wide, narrow.rows(), wide.cols());
  check_activation(op, "the folded rows", narrow, wide.rows(), narrow.cols());
  check_op(narrow.cols() > 0 && narrow.cols() <= wide.cols(), op, "pieces are longer than rows");
}
}  // namespace

void fold_columns(Context& ctx, const Tensor& y, const Tensor& x) {
  check_fold("fold_columns", x, y);
  dispatch(ctx, "fold_columns", [&] { fold_columns_cpu(y, x); });
}

void unfold_columns(Context& ctx, const Tensor& y, const Tensor& x) {
  check_fold("unfold_columns", y, x);
  dispatch(ctx, "unfold_columns", [&] { unfold_columns_cpu(y, x); });
}

}  // namespace loraine
