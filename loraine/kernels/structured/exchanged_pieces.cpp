// Checks, and the choice of device.
#include "loraine/kernels/structured/exchanged_pieces.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void exchange_pieces_cpu(const Tensor& y, const Tensor& x, int64_t A, int64_t B, int64_t n);

void exchange_pieces(Context& ctx, const Tensor& y, const Tensor& x, int64_t A, int64_t B, int64_t n) {
  check_activation("exchange_pieces", "x", x, x.rows(), x.cols());
  check_activation("exchange_pieces", "y", y, x.rows(), x.cols());
  check_op(A > 0 && B > 0 && n > 0 && x.cols() % (A * B * n) == 0, "exchange_pieces", "the pieces must divide the columns");
  dispatch(ctx, "exchange_pieces", [&] { exchange_pieces_cpu(y, x, A, B, n); });
}

}  // namespace loraine
