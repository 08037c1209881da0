// Checks of these ops and the choice of device.
#include "loraine/kernels/rows/row_factors.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void scale_rows_cpu(const Tensor& x, std::span<const float> factors);
void clamp_cpu(const Tensor& y, const Tensor& x, float limit);
void clamp_backward_cpu(const Tensor& d, const Tensor& y, float limit);

void scale_rows(Context& ctx, const Tensor& x, std::span<const float> factors) {
  check_activation("scale_rows", "x", x, x.rows(), x.cols());
  check_op(static_cast<int64_t>(factors.size()) == x.rows(), "scale_rows", "as many factors as rows are expected");
  dispatch(ctx, "scale_rows", [&] { scale_rows_cpu(x, factors); });
}

void clamp(Context& ctx, const Tensor& y, const Tensor& x, float limit) {
  check_activation("clamp", "y", y, y.rows(), y.cols());
  check_activation("clamp", "x", x, y.rows(), y.cols());
  dispatch(ctx, "clamp", [&] { clamp_cpu(y, x, limit); });
}

void clamp_backward(Context& ctx, const Tensor& d, const Tensor& y, float limit) {
  check_activation("clamp_backward", "d", d, d.rows(), d.cols());
  check_activation("clamp_backward", "y", y, d.rows(), d.cols());
  dispatch(ctx, "clamp_backward", [&] { clamp_backward_cpu(d, y, limit); });
}

}  // namespace loraine
