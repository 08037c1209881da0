// Checks of RMSNorm and the choice of device.
#include "loraine/kernels/norms/rms_norm.h"

#include "loraine/kernels/norms/norm_weight.h"

namespace loraine {

void rms_norm_cpu(const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, float eps, float offset);
void rms_norm_rebuild_cpu(const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight, float offset);
void rms_norm_backward_cpu(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& rstd, const Tensor& weight, bool accumulate,
                           float offset);

namespace {
void check(const char* op, const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight) {
  check_activation(op, "x", x, x.rows(), x.cols());
  check_activation(op, "y", y, x.rows(), x.cols());
  check_f32(op, "rstd", rstd, x.rows(), 1);
  check_norm_vector(op, "weight", weight, x.cols());
}
}  // namespace

void rms_norm(Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, float eps, float offset) {
  check("rms_norm", y, x, rstd, weight);
  dispatch(ctx, "rms_norm", [&] { rms_norm_cpu(y, rstd, x, weight, eps, offset); });
}

void rms_norm_rebuild(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight, float offset) {
  check("rms_norm_rebuild", y, x, rstd, weight);
  dispatch(ctx, "rms_norm_rebuild", [&] { rms_norm_rebuild_cpu(y, x, rstd, weight, offset); });
}

void rms_norm_backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& rstd, const Tensor& weight,
                       bool accumulate, float offset) {
  check("rms_norm_backward", d_x, x, rstd, weight);
  check_activation("rms_norm_backward", "d_y", d_y, x.rows(), x.cols());
  dispatch(ctx, "rms_norm_backward", [&] { rms_norm_backward_cpu(d_x, d_y, x, rstd, weight, accumulate, offset); });
}

}  // namespace loraine
