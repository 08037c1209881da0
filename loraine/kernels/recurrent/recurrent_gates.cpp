// Checks of the gates of recurrent mixers and the choice of device.
#include "loraine/kernels/recurrent/recurrent_gates.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void log_decay_cpu(const Tensor& g, const Tensor& a, const Tensor& A_log, const Tensor& dt_bias);
void log_decay_backward_cpu(const Tensor& d_a, const Tensor& d_g, const Tensor& a, const Tensor& A_log, const Tensor& dt_bias);
void write_strength_cpu(const Tensor& beta, const Tensor& b, float largest);
void write_strength_backward_cpu(const Tensor& d_b, const Tensor& d_beta, const Tensor& beta, float largest);

namespace {
void check(const char* op, const Tensor& g, const Tensor& a, const Tensor& A_log, const Tensor& dt_bias) {
  check_activation(op, "a", a, a.rows(), a.cols());
  check_f32(op, "g", g, a.rows(), a.cols());
  check_op(dt_bias.dtype == Dtype::F32 && dt_bias.numel() == a.cols() && dt_bias.contiguous(), op,
           "dt_bias must be F32 with as many elements as a has columns");
  check_op(A_log.dtype == Dtype::F32 && A_log.numel() > 0 && a.cols() % A_log.numel() == 0 && A_log.contiguous(), op,
           "A_log must be F32, and the columns of a a multiple of its elements");
}
}  // namespace

void log_decay(Context& ctx, const Tensor& g, const Tensor& a, const Tensor& A_log, const Tensor& dt_bias) {
  check("log_decay", g, a, A_log, dt_bias);
  dispatch(ctx, "log_decay", [&] { log_decay_cpu(g, a, A_log, dt_bias); });
}

void log_decay_backward(Context& ctx, const Tensor& d_a, const Tensor& d_g, const Tensor& a, const Tensor& A_log, const Tensor& dt_bias) {
  check("log_decay_backward", d_g, a, A_log, dt_bias);
  check_activation("log_decay_backward", "d_a", d_a, a.rows(), a.cols());
  dispatch(ctx, "log_decay_backward", [&] { log_decay_backward_cpu(d_a, d_g, a, A_log, dt_bias); });
}

void write_strength(Context& ctx, const Tensor& beta, const Tensor& b, float largest) {
  check_activation("write_strength", "b", b, b.rows(), b.cols());
  check_f32("write_strength", "beta", beta, b.rows(), b.cols());
  dispatch(ctx, "write_strength", [&] { write_strength_cpu(beta, b, largest); });
}

void write_strength_backward(Context& ctx, const Tensor& d_b, const Tensor& d_beta, const Tensor& beta, float largest) {
  check_f32("write_strength_backward", "beta", beta, beta.rows(), beta.cols());
  check_f32("write_strength_backward", "d_beta", d_beta, beta.rows(), beta.cols());
  check_activation("write_strength_backward", "d_b", d_b, beta.rows(), beta.cols());
  dispatch(ctx, "write_strength_backward", [&] { write_strength_backward_cpu(d_b, d_beta, beta, largest); });
}

}  // namespace loraine
