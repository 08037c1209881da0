// Checks of gates and the choice of device.
#include "loraine/kernels/activations/sigmoid_gate.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void sigmoid_gate_cpu(const Tensor& y, const Tensor& x, const Tensor& gate);
void sigmoid_gate_backward_cpu(const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate);
void silu_gate_cpu(const Tensor& y, const Tensor& x, const Tensor& gate);
void silu_gate_backward_cpu(const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate);
void multiply_rows_cpu(const Tensor& y, const Tensor& x, const Tensor& gate);

namespace {
void check(const char* op, const Tensor& y, const Tensor& x, const Tensor& gate, int64_t gate_cols) {
  check_activation(op, "x", x, x.rows(), x.cols());
  check_activation(op, "y", y, x.rows(), x.cols());
  check_activation(op, "gate", gate, x.rows(), gate_cols);
}
void check_backward(const char* op, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate,
                    int64_t gate_cols) {
  check(op, d_y, x, gate, gate_cols);
  check_activation(op, "d_x", d_x, x.rows(), x.cols());
  check_activation(op, "d_gate", d_gate, x.rows(), gate_cols);
}
int64_t columns_of(const Tensor& gate, const Tensor& x) { return gate.cols() == 1 ? 1 : x.cols(); }
}  // namespace

void sigmoid_gate(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& gate) {
  check("sigmoid_gate", y, x, gate, columns_of(gate, x));
  dispatch(ctx, "sigmoid_gate", [&] { sigmoid_gate_cpu(y, x, gate); });
}

void sigmoid_gate_backward(Context& ctx, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate) {
  check_backward("sigmoid_gate_backward", d_x, d_gate, d_y, x, gate, columns_of(gate, x));
  dispatch(ctx, "sigmoid_gate_backward", [&] { sigmoid_gate_backward_cpu(d_x, d_gate, d_y, x, gate); });
}

void silu_gate(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& gate) {
  check("silu_gate", y, x, gate, x.cols());
  dispatch(ctx, "silu_gate", [&] { silu_gate_cpu(y, x, gate); });
}

void silu_gate_backward(Context& ctx, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate) {
  check_backward("silu_gate_backward", d_x, d_gate, d_y, x, gate, x.cols());
  dispatch(ctx, "silu_gate_backward", [&] { silu_gate_backward_cpu(d_x, d_gate, d_y, x, gate); });
}

void multiply_rows(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& gate) {
  check("multiply_rows", y, x, gate, x.cols());
  dispatch(ctx, "multiply_rows", [&] { multiply_rows_cpu(y, x, gate); });
}

}  // namespace loraine
