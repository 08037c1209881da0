// Checks of activations and the choice of device.
#include "loraine/kernels/activations/activation.h"

#include "loraine/kernels/activations/swiglu.h"
#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void activate_cpu(const Tensor& h, const Tensor& x, const ActivationShape& shape);
void activate_backward_cpu(const Tensor& d_x, const Tensor& d_h, const Tensor& x, const ActivationShape& shape);
void xielu_slopes_cpu(const Tensor& sums, const Tensor& d_h, const Tensor& x);
void gated_activate_cpu(const Tensor& h, const Tensor& gate_up, const ActivationShape& shape);
void gated_activate_backward_cpu(const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up, const ActivationShape& shape);

void activate(Context& ctx, const Tensor& h, const Tensor& x, const ActivationShape& shape) {
  check_activation("activate", "h", h, h.rows(), h.cols());
  check_activation("activate", "x", x, h.rows(), h.cols());
  check_op(h.dtype == x.dtype, "activate", "h and x must be of one type");
  dispatch(ctx, "activate", [&] { activate_cpu(h, x, shape); });
}

void activate_backward(Context& ctx, const Tensor& d_x, const Tensor& d_h, const Tensor& x, const ActivationShape& shape) {
  check_activation("activate_backward", "d_h", d_h, d_h.rows(), d_h.cols());
  check_activation("activate_backward", "x", x, d_h.rows(), d_h.cols());
  check_activation("activate_backward", "d_x", d_x, d_h.rows(), d_h.cols());
  check_op(d_h.dtype == x.dtype && d_h.dtype == d_x.dtype, "activate_backward", "all must be of one type");
  dispatch(ctx, "activate_backward", [&] { activate_backward_cpu(d_x, d_h, x, shape); });
}

void xielu_slopes(Context& ctx, const Tensor& sums, const Tensor& d_h, const Tensor& x) {
  check_activation("xielu_slopes", "d_h", d_h, d_h.rows(), d_h.cols());
  check_activation("xielu_slopes", "x", x, d_h.rows(), d_h.cols());
  check_f32("xielu_slopes", "sums", sums, d_h.rows(), 2);
  check_op(d_h.dtype == x.dtype, "xielu_slopes", "d_h and x must be of one type");
  dispatch(ctx, "xielu_slopes", [&] { xielu_slopes_cpu(sums, d_h, x); });
}

void gated_activate(Context& ctx, const Tensor& h, const Tensor& gate_up, const ActivationShape& shape) {
  if (shape.kind == Activation::silu) return swiglu(ctx, h, gate_up);
  check_activation("gated_activate", "h", h, h.rows(), h.cols());
  check_activation("gated_activate", "gate_up", gate_up, h.rows(), 2 * h.cols());
  check_op(h.dtype == gate_up.dtype, "gated_activate", "h and gate_up must be of one type");
  dispatch(ctx, "gated_activate", [&] { gated_activate_cpu(h, gate_up, shape); });
}

void gated_activate_backward(Context& ctx, const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up,
                             const ActivationShape& shape) {
  if (shape.kind == Activation::silu) return swiglu_backward(ctx, d_gate_up, d_h, gate_up);
  check_activation("gated_activate_backward", "d_h", d_h, d_h.rows(), d_h.cols());
  check_activation("gated_activate_backward", "gate_up", gate_up, d_h.rows(), 2 * d_h.cols());
  check_activation("gated_activate_backward", "d_gate_up", d_gate_up, d_h.rows(), 2 * d_h.cols());
  check_op(d_h.dtype == gate_up.dtype && d_h.dtype == d_gate_up.dtype, "gated_activate_backward", "all must be of one type");
  dispatch(ctx, "gated_activate_backward", [&] { gated_activate_backward_cpu(d_gate_up, d_h, gate_up, shape); });
}

}  // namespace loraine
