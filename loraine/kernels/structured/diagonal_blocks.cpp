// Checks of the products with diagonal blocks, and the choice of device.
#include "loraine/kernels/structured/diagonal_blocks.h"

#include <fmt/format.h>

#include "loraine/core/error.h"
#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void multiply_blocks_cpu(const Tensor& y, const Tensor& x, const Tensor& r, bool transposed, bool accumulate);
void multiply_blocks_gradient_cpu(const Tensor& d_r, const Tensor& x, const Tensor& d_y);

namespace {
void check_blocks(const char* op, const Tensor& r, int64_t columns) {
  if (r.rank == 3 && r.dtype == Dtype::F32 && r.shape[1] == r.shape[2] && r.shape[1] > 0 && r.contiguous() &&
      (r.shape[0] == 1 ? columns % r.shape[1] == 0 : r.shape[0] * r.shape[1] == columns))
    return;
  throw Error(ErrorKind::internal,
              fmt::format("{}: blocks are {}, expected F32 [n, b, b] or [1, b, b] for {} columns", op, r.shape_text(), columns));
}
}  // namespace

void multiply_blocks(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& r, bool transposed, bool accumulate) {
  check_activation("multiply_blocks", "x", x, x.rows(), x.cols());
  check_activation("multiply_blocks", "y", y, x.rows(), x.cols());
  check_blocks("multiply_blocks", r, x.cols());
  dispatch(ctx, "multiply_blocks", [&] { multiply_blocks_cpu(y, x, r, transposed, accumulate); });
}

void multiply_blocks_gradient(Context& ctx, const Tensor& d_r, const Tensor& x, const Tensor& d_y) {
  check_activation("multiply_blocks_gradient", "x", x, x.rows(), x.cols());
  check_activation("multiply_blocks_gradient", "d_y", d_y, x.rows(), x.cols());
  check_blocks("multiply_blocks_gradient", d_r, x.cols());
  dispatch(ctx, "multiply_blocks_gradient", [&] { multiply_blocks_gradient_cpu(d_r, x, d_y); });
}

}  // namespace loraine
