// Checks of the Kronecker products and the choice of device.
#include "loraine/kernels/structured/kronecker.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void kronecker_cpu(const Tensor& y, const Tensor& u, const Tensor& x, const Tensor& w1, const Tensor& w2, float scale);
void kronecker_backward_cpu(const Tensor& d_x, const Tensor& d_w1, const Tensor& d_w2, const Tensor& d_u, const Tensor& d_y,
                            const Tensor& x, const Tensor& u, const Tensor& w1, const Tensor& w2, float scale);

namespace {
void check_kronecker(const char* op, const Tensor& y, const Tensor& u, const Tensor& x, const Tensor& w1, const Tensor& w2) {
  check_activation(op, "x", x, x.rows(), w1.cols() * w2.cols());
  check_activation(op, "u", u, x.rows(), w1.cols() * w2.rows());
  check_activation(op, "y", y, x.rows(), w1.rows() * w2.rows());
}
}  // namespace

void kronecker(Context& ctx, const Tensor& y, const Tensor& u, const Tensor& x, const Tensor& w1, const Tensor& w2, float scale) {
  check_kronecker("kronecker", y, u, x, w1, w2);
  dispatch(ctx, "kronecker", [&] { kronecker_cpu(y, u, x, w1, w2, scale); });
}

void kronecker_backward(Context& ctx, const Tensor& d_x, const Tensor& d_w1, const Tensor& d_w2, const Tensor& d_u, const Tensor& d_y,
                        const Tensor& x, const Tensor& u, const Tensor& w1, const Tensor& w2, float scale) {
  check_kronecker("kronecker_backward", d_y, u, x, w1, w2);
  check_kronecker("kronecker_backward", d_y, d_u, x, w1, w2);
  dispatch(ctx, "kronecker_backward", [&] { kronecker_backward_cpu(d_x, d_w1, d_w2, d_u, d_y, x, u, w1, w2, scale); });
}

}  // namespace loraine
