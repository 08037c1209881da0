// Checks of LayerNorm and the choice of device.
#include "loraine/kernels/norms/layer_norm.h"

#include "loraine/kernels/norms/norm_weight.h"

namespace loraine {

void layer_norm_cpu(const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x, const Tensor& weight, const Tensor& bias,
                    float eps, float offset);
void layer_norm_rebuild_cpu(const Tensor& y, const Tensor& x, const Tensor& mean, const Tensor& rstd, const Tensor& weight,
                            const Tensor& bias, float offset);
void layer_norm_backward_cpu(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& mean, const Tensor& rstd,
                             const Tensor& weight, float offset, bool accumulate);

namespace {
void check(const char* op, const Tensor& y, const Tensor& x, const Tensor& mean, const Tensor& rstd, const Tensor& weight) {
  check_activation(op, "x", x, x.rows(), x.cols());
  check_activation(op, "y", y, x.rows(), x.cols());
  check_f32(op, "mean", mean, x.rows(), 1);
  check_f32(op, "rstd", rstd, x.rows(), 1);
  check_norm_vector(op, "weight", weight, x.cols());
}
}  // namespace

void layer_norm(Context& ctx, const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x, const Tensor& weight,
                const Tensor& bias, float eps, float offset) {
  check("layer_norm", y, x, mean, rstd, weight);
  check_norm_vector("layer_norm", "bias", bias, x.cols());
  dispatch(ctx, "layer_norm", [&] { layer_norm_cpu(y, mean, rstd, x, weight, bias, eps, offset); });
}

void layer_norm_rebuild(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& mean, const Tensor& rstd, const Tensor& weight,
                        const Tensor& bias, float offset) {
  check("layer_norm_rebuild", y, x, mean, rstd, weight);
  check_norm_vector("layer_norm_rebuild", "bias", bias, x.cols());
  dispatch(ctx, "layer_norm_rebuild", [&] { layer_norm_rebuild_cpu(y, x, mean, rstd, weight, bias, offset); });
}

void layer_norm_backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& mean, const Tensor& rstd,
                         const Tensor& weight, float offset, bool accumulate) {
  check("layer_norm_backward", d_x, x, mean, rstd, weight);
  check_activation("layer_norm_backward", "d_y", d_y, x.rows(), x.cols());
  dispatch(ctx, "layer_norm_backward", [&] { layer_norm_backward_cpu(d_x, d_y, x, mean, rstd, weight, offset, accumulate); });
}

}  // namespace loraine
