// Checks of the ops with one factor and the choice of device.
#include "loraine/kernels/rows/scaled.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void scale_cpu(const Tensor& y, const Tensor& x, float factor);
void add_scaled_cpu(const Tensor& y, const Tensor& a, const Tensor& b, float factor);
void add_rounded_scaled_cpu(const Tensor& sum, const Tensor& rounded, const Tensor& x, float factor);
void soft_cap_cpu(const Tensor& y, const Tensor& x, float cap);
void soft_cap_backward_cpu(const Tensor& d, const Tensor& y, float cap);

void scale(Context& ctx, const Tensor& y, const Tensor& x, float factor) {
  check_activation("scale", "y", y, y.rows(), y.cols());
  check_activation("scale", "x", x, y.rows(), y.cols());
  dispatch(ctx, "scale", [&] { scale_cpu(y, x, factor); });
}

void add_scaled(Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b, float factor) {
  check_activation("add_scaled", "y", y, y.rows(), y.cols());
  check_activation("add_scaled", "a", a, y.rows(), y.cols());
  check_activation("add_scaled", "b", b, y.rows(), y.cols());
  dispatch(ctx, "add_scaled", [&] { add_scaled_cpu(y, a, b, factor); });
}

void add_rounded_scaled(Context& ctx, const Tensor& sum, const Tensor& rounded, const Tensor& x, float factor) {
  check_f32("add_rounded_scaled", "sum", sum, sum.rows(), sum.cols());
  check_activation("add_rounded_scaled", "rounded", rounded, sum.rows(), sum.cols());
  check_activation("add_rounded_scaled", "x", x, sum.rows(), sum.cols());
  dispatch(ctx, "add_rounded_scaled", [&] { add_rounded_scaled_cpu(sum, rounded, x, factor); });
}

void soft_cap(Context& ctx, const Tensor& y, const Tensor& x, float cap) {
  check_f32("soft_cap", "y", y, y.rows(), y.cols());
  check_f32("soft_cap", "x", x, y.rows(), y.cols());
  check_op(cap > 0, "soft_cap", "cap must be positive");
  dispatch(ctx, "soft_cap", [&] { soft_cap_cpu(y, x, cap); });
}

void soft_cap_backward(Context& ctx, const Tensor& d, const Tensor& y, float cap) {
  check_activation("soft_cap_backward", "d", d, y.rows(), y.cols());
  check_f32("soft_cap_backward", "y", y, y.rows(), y.cols());
  check_op(cap > 0, "soft_cap_backward", "cap must be positive");
  dispatch(ctx, "soft_cap_backward", [&] { soft_cap_backward_cpu(d, y, cap); });
}

}  // namespace loraine
