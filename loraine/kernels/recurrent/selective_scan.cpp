// Checks of Mamba's scan and the choice of device.
#include "loraine/kernels/recurrent/selective_scan.h"

#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/recurrent/chunk_frame.h"

namespace loraine {

void selective_scan_cpu(const Tensor& y, const Tensor& borders, const Tensor& x, const Tensor& B, const Tensor& C, const Tensor& dt_raw,
                        const Tensor& A_log, const Tensor& D, std::span<const Sequence> sequences, const SelectiveScanShape& shape,
                        const RecurrentState& state);
void selective_scan_backward_cpu(const Tensor& d_x, const Tensor& d_B, const Tensor& d_C, const Tensor& d_dt_raw, const Tensor& d_A_log,
                                 const Tensor& d_D, const Tensor& d_y, const Tensor& borders, const Tensor& x, const Tensor& B,
                                 const Tensor& C, const Tensor& dt_raw, const Tensor& A_log, const Tensor& D,
                                 std::span<const Sequence> sequences, const SelectiveScanShape& shape, const Tensor& partial);

namespace {

void check(const char* op, const Tensor& x, const Tensor& B, const Tensor& C, const Tensor& dt_raw, const Tensor& A_log, const Tensor& D,
           const SelectiveScanShape& s) {
  check_op(s.channels > 0 && s.state > 0, op, "channels and state must be positive");
  check_activation(op, "x", x, x.rows(), s.channels);
  check_activation(op, "dt_raw", dt_raw, x.rows(), s.channels);
  check_activation(op, "B", B, x.rows(), s.state);
  check_activation(op, "C", C, x.rows(), s.state);
  check_f32(op, "A_log", A_log, s.channels, s.state);
  check_op(D.dtype == Dtype::F32 && D.numel() == s.channels && D.contiguous(), op, "D must be F32 [channels]");
}

}  // namespace

void selective_scan(Context& ctx, const Tensor& y, const Tensor& borders, const Tensor& x, const Tensor& B, const Tensor& C,
                    const Tensor& dt_raw, const Tensor& A_log, const Tensor& D, std::span<const Sequence> sequences,
                    const SelectiveScanShape& shape, const RecurrentState& state) {
  const char* op = "selective_scan";
  check(op, x, B, C, dt_raw, A_log, D, shape);
  check_activation(op, "y", y, x.rows(), shape.channels);
  check_recurrence(op, x.rows(), sequences, borders, state, shape.state_columns());
  dispatch(ctx, op, [&] { selective_scan_cpu(y, borders, x, B, C, dt_raw, A_log, D, sequences, shape, state); });
}

void selective_scan_backward(Context& ctx, const Tensor& d_x, const Tensor& d_B, const Tensor& d_C, const Tensor& d_dt_raw,
                             const Tensor& d_A_log, const Tensor& d_D, const Tensor& d_y, const Tensor& borders, const Tensor& x,
                             const Tensor& B, const Tensor& C, const Tensor& dt_raw, const Tensor& A_log, const Tensor& D,
                             std::span<const Sequence> sequences, const SelectiveScanShape& shape, const Tensor& partial) {
  const char* op = "selective_scan_backward";
  check(op, x, B, C, dt_raw, A_log, D, shape);
  check_activation(op, "d_y", d_y, x.rows(), shape.channels);
  check_activation(op, "d_x", d_x, x.rows(), shape.channels);
  check_activation(op, "d_dt_raw", d_dt_raw, x.rows(), shape.channels);
  check_activation(op, "d_B", d_B, x.rows(), shape.state);
  check_activation(op, "d_C", d_C, x.rows(), shape.state);
  if (d_A_log.data) check_f32(op, "d_A_log", d_A_log, shape.channels, shape.state);
  if (d_D.data) check_op(d_D.dtype == Dtype::F32 && d_D.numel() == shape.channels && d_D.contiguous(), op, "d_D must be F32 [channels]");
  check_op(borders.data != nullptr, op, "borders are those of the forward");
  check_op(partial.contiguous(), op, "partial must be contiguous");
  check_f32(op, "partial", partial, x.rows(), selective_scan_partial_columns(shape));
  check_recurrence(op, x.rows(), sequences, borders, {}, shape.state_columns());
  dispatch(ctx, op, [&] {
    selective_scan_backward_cpu(d_x, d_B, d_C, d_dt_raw, d_A_log, d_D, d_y, borders, x, B, C, dt_raw, A_log, D, sequences, shape, partial);
  });
}

}  // namespace loraine
