// Checks of the gated RMSNorm and the choice of device.
#include "loraine/kernels/recurrent/gated_norm.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void gated_norm_cpu(const Tensor& y, const Tensor& x, const Tensor& gate, const Tensor& weight, const GatedNormShape& shape);
void gated_norm_backward_cpu(const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate,
                             const Tensor& weight, const GatedNormShape& shape);

namespace {
void check(const char* op, const Tensor& x, const Tensor& gate, const Tensor& weight, const GatedNormShape& shape) {
  check_activation(op, "x", x, x.rows(), x.cols());
  check_activation(op, "gate", gate, x.rows(), x.cols());
  if (shape.width == 0) return;
  check_op(shape.width > 0 && x.cols() % shape.width == 0, op, "the columns must be a multiple of the width");
  check_op(
      weight.data && weight.dtype == Dtype::F32 && (weight.numel() == shape.width || weight.numel() == x.cols()) && weight.contiguous(), op,
      "weight must be F32 with as many elements as a group or as x has columns");
}
}  // namespace

void gated_norm(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& gate, const Tensor& weight, const GatedNormShape& shape) {
  check("gated_norm", x, gate, weight, shape);
  check_activation("gated_norm", "y", y, x.rows(), x.cols());
  dispatch(ctx, "gated_norm", [&] { gated_norm_cpu(y, x, gate, weight, shape); });
}

void gated_norm_backward(Context& ctx, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate,
                         const Tensor& weight, const GatedNormShape& shape) {
  const char* op = "gated_norm_backward";
  check(op, x, gate, weight, shape);
  check_activation(op, "d_y", d_y, x.rows(), x.cols());
  check_activation(op, "d_x", d_x, x.rows(), x.cols());
  check_activation(op, "d_gate", d_gate, x.rows(), x.cols());
  dispatch(ctx, op, [&] { gated_norm_backward_cpu(d_x, d_gate, d_y, x, gate, weight, shape); });
}

}  // namespace loraine
