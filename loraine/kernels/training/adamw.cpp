// Checks of the optimizer's update and the choice of device.
#include "loraine/kernels/training/adamw.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void adamw_cpu(const Tensor& parameter, const Tensor& m, const Tensor& v, const Tensor& gradient, float grad_scale, const AdamW& options);
double sum_of_squares_cpu(const Tensor& x);

void adamw(Context& ctx, const Tensor& parameter, const Tensor& m, const Tensor& v, const Tensor& gradient, float grad_scale,
           const AdamW& options) {
  for (const Tensor* t : {&parameter, &m, &v, &gradient}) {
    check_op(t->dtype == Dtype::F32 && t->contiguous() && t->numel() == parameter.numel(), "adamw",
             "parameter, m, v and gradient must be contiguous F32 of one size");
  }
  check_op(options.step >= 1, "adamw", "step counts from 1");
  dispatch(ctx, "adamw", [&] { adamw_cpu(parameter, m, v, gradient, grad_scale, options); });
}

double sum_of_squares(Context& ctx, const Tensor& x) {
  check_f32("sum_of_squares", "x", x, x.rows(), x.cols());
  double sum = 0;
  dispatch(ctx, "sum_of_squares", [&] { sum = sum_of_squares_cpu(x); });
  return sum;
}

}  // namespace loraine
