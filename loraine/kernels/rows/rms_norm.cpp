// Checks of RMSNorm and the choice of device.
#include "loraine/kernels/rows/rms_norm.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void rms_norm_cpu(const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, float eps);
void rms_norm_rebuild_cpu(const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight);
void rms_norm_backward_cpu(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& rstd, const Tensor& weight,
                           bool accumulate);

namespace {
void check(const char* op, const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight) {
  check_activation(op, "x", x, x.rows(), x.cols());
  check_activation(op, "y", y, x.rows(), x.cols());
  check_f32(op, "rstd", rstd, x.rows(), 1);
  check_op(weight.dtype == Dtype::F32 && weight.numel() == x.cols() && weight.contiguous(), op,
           "weight must be F32 with as many elements as x has columns");
}
}  // namespace

void rms_norm(Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, float eps) {
  check("rms_norm", y, x, rstd, weight);
  dispatch(ctx, "rms_norm", [&] { rms_norm_cpu(y, rstd, x, weight, eps); });
}

void rms_norm_rebuild(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight) {
  check("rms_norm_rebuild", y, x, rstd, weight);
  dispatch(ctx, "rms_norm_rebuild", [&] { rms_norm_rebuild_cpu(y, x, rstd, weight); });
}

void rms_norm_backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& rstd, const Tensor& weight,
                       bool accumulate) {
  check("rms_norm_backward", d_x, x, rstd, weight);
  check_activation("rms_norm_backward", "d_y", d_y, x.rows(), x.cols());
  dispatch(ctx, "rms_norm_backward", [&] { rms_norm_backward_cpu(d_x, d_y, x, rstd, weight, accumulate); });
}

}  // namespace loraine
