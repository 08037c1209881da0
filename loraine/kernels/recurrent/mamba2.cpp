// Checks of Mamba-2's scan and the choice of device.
#include "loraine/kernels/recurrent/mamba2.h"

#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/recurrent/chunk_frame.h"

namespace loraine {

void mamba2_cpu(const Tensor& y, const Tensor& borders, const Tensor& x, const Tensor& B, const Tensor& C, const Tensor& dt_raw,
                const Mamba2Weights& weights, std::span<const Sequence> sequences, const Mamba2Shape& shape, const RecurrentState& state);
void mamba2_backward_cpu(const Tensor& d_x, const Tensor& d_B, const Tensor& d_C, const Tensor& d_dt_raw, const Mamba2Weights& d_weights,
                         const Tensor& d_y, const Tensor& borders, const Tensor& x, const Tensor& B, const Tensor& C, const Tensor& dt_raw,
                         const Mamba2Weights& weights, std::span<const Sequence> sequences, const Mamba2Shape& shape,
                         const Tensor& partial);

namespace {

void check_heads(const char* op, const char* name, const Tensor& t, int64_t heads) {
  if (t.dtype == Dtype::F32 && t.numel() == heads && t.contiguous()) return;
  throw Error(ErrorKind::internal, fmt::format("{}: {} is {} {}, expected F32 [{}]", op, name, name_of(t.dtype), t.shape_text(), heads));
}

void check(const char* op, const Tensor& x, const Tensor& B, const Tensor& C, const Tensor& dt_raw, const Mamba2Weights& w,
           const Mamba2Shape& s) {
  check_op(s.heads > 0 && s.head_dim > 0 && s.groups > 0 && s.state > 0 && s.heads % s.groups == 0, op,
           "heads must be a multiple of groups, all positive");
  check_activation(op, "x", x, x.rows(), s.width());
  check_activation(op, "B", B, x.rows(), s.keys());
  check_activation(op, "C", C, x.rows(), s.keys());
  check_activation(op, "dt_raw", dt_raw, x.rows(), s.heads);
  check_heads(op, "A_log", w.A_log, s.heads);
  check_heads(op, "D", w.D, s.heads);
  check_heads(op, "dt_bias", w.dt_bias, s.heads);
}

// Of the chunked form: products of rows with states (`states`) and, half of them needed, of rows with rows.
OpWork work_of(const Context& ctx, int64_t T, const Mamba2Shape& s, double states, double rows) {
  if (!ctx.profile) return {};
  const double chunk = static_cast<double>(kRecurrentChunk), N = static_cast<double>(s.state), P = static_cast<double>(s.head_dim);
  return {2.0 * static_cast<double>(T * s.heads) * (states * N * P + rows * chunk / 2 * P)};
}

}  // namespace

void mamba2(Context& ctx, const Tensor& y, const Tensor& borders, const Tensor& x, const Tensor& B, const Tensor& C, const Tensor& dt_raw,
            const Mamba2Weights& weights, std::span<const Sequence> sequences, const Mamba2Shape& shape, const RecurrentState& state) {
  const char* op = "mamba2";
  check(op, x, B, C, dt_raw, weights, shape);
  check_activation(op, "y", y, x.rows(), shape.width());
  check_recurrence(op, x.rows(), sequences, borders, state, shape.state_columns());
  dispatch(
      ctx, op, [&] { mamba2_cpu(y, borders, x, B, C, dt_raw, weights, sequences, shape, state); }, work_of(ctx, x.rows(), shape, 2, 1));
}

void mamba2_backward(Context& ctx, const Tensor& d_x, const Tensor& d_B, const Tensor& d_C, const Tensor& d_dt_raw,
                     const Mamba2Weights& d_weights, const Tensor& d_y, const Tensor& borders, const Tensor& x, const Tensor& B,
                     const Tensor& C, const Tensor& dt_raw, const Mamba2Weights& weights, std::span<const Sequence> sequences,
                     const Mamba2Shape& shape, const Tensor& partial) {
  const char* op = "mamba2_backward";
  check(op, x, B, C, dt_raw, weights, shape);
  check_activation(op, "d_y", d_y, x.rows(), shape.width());
  check_activation(op, "d_x", d_x, x.rows(), shape.width());
  check_activation(op, "d_B", d_B, x.rows(), shape.keys());
  check_activation(op, "d_C", d_C, x.rows(), shape.keys());
  check_activation(op, "d_dt_raw", d_dt_raw, x.rows(), shape.heads);
  for (const Tensor* d : {&d_weights.A_log, &d_weights.D, &d_weights.dt_bias})
    if (d->data) check_heads(op, "d_weights", *d, shape.heads);
  check_op(borders.data != nullptr, op, "borders are those of the forward");
  check_op(partial.contiguous(), op, "partial must be contiguous");
  check_f32(op, "partial", partial, x.rows(), mamba2_partial_columns(shape));
  check_recurrence(op, x.rows(), sequences, borders, {}, shape.state_columns());
  dispatch(
      ctx, op,
      [&] { mamba2_backward_cpu(d_x, d_B, d_C, d_dt_raw, d_weights, d_y, borders, x, B, C, dt_raw, weights, sequences, shape, partial); },
      work_of(ctx, x.rows(), shape, 5, 2));
}

}  // namespace loraine
