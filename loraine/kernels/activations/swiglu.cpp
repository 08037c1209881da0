// Checks of SwiGLU and the choice of device.
#include "loraine/kernels/activations/swiglu.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void swiglu_cpu(const Tensor& h, const Tensor& gate_up);
void swiglu_backward_cpu(const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up);

void swiglu(Context& ctx, const Tensor& h, const Tensor& gate_up) {
  check_activation("swiglu", "h", h, h.rows(), h.cols());
  check_activation("swiglu", "gate_up", gate_up, h.rows(), 2 * h.cols());
  check_op(h.dtype == gate_up.dtype, "swiglu", "h and gate_up must be of one type");
  dispatch(ctx, "swiglu", [&] { swiglu_cpu(h, gate_up); });
}

void swiglu_backward(Context& ctx, const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up) {
  check_activation("swiglu_backward", "d_h", d_h, d_h.rows(), d_h.cols());
  check_activation("swiglu_backward", "gate_up", gate_up, d_h.rows(), 2 * d_h.cols());
  check_activation("swiglu_backward", "d_gate_up", d_gate_up, d_h.rows(), 2 * d_h.cols());
  check_op(d_h.dtype == gate_up.dtype && d_h.dtype == d_gate_up.dtype, "swiglu_backward", "all must be of one type");
  dispatch(ctx, "swiglu_backward", [&] { swiglu_backward_cpu(d_gate_up, d_h, gate_up); });
}

}  // namespace loraine
