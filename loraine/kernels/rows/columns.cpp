// Checks of the column ops and the choice of device.
#include "loraine/kernels/rows/columns.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void scale_columns_cpu(const Tensor& y, const Tensor& x, const float* scale, const float* offset, bool accumulate);
void column_dots_cpu(float* d, const Tensor& a, const Tensor& b, const float* divisor);

void scale_columns(Context& ctx, const Tensor& y, const Tensor& x, const float* scale, const float* offset, bool accumulate) {
  check_activation("scale_columns", "y", y, y.rows(), y.cols());
  check_activation("scale_columns", "x", x, y.rows(), y.cols());
  dispatch(ctx, "scale_columns", [&] { scale_columns_cpu(y, x, scale, offset, accumulate); });
}

void column_dots(Context& ctx, float* d, const Tensor& a, const Tensor& b, const float* divisor) {
  check_activation("column_dots", "a", a, a.rows(), a.cols());
  check_activation("column_dots", "b", b, a.rows(), a.cols());
  dispatch(ctx, "column_dots", [&] { column_dots_cpu(d, a, b, divisor); });
}

}  // namespace loraine
