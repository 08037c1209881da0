// Checks of the gated delta rule and the choice of device.
#include "loraine/kernels/recurrent/gated_delta.h"

#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/recurrent/chunk_frame.h"

namespace loraine {

void gated_delta_cpu(const Tensor& o, const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& g,
                     const Tensor& beta, std::span<const Sequence> sequences, const GatedDeltaShape& shape, const RecurrentState& state);
void gated_delta_backward_cpu(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_g, const Tensor& d_beta,
                              const Tensor& d_o, const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& g,
                              const Tensor& beta, std::span<const Sequence> sequences, const GatedDeltaShape& shape);

namespace {

void check(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& g, const Tensor& beta,
           const GatedDeltaShape& s) {
  check_op(s.key_heads > 0 && s.value_heads > 0 && s.key_dim > 0 && s.value_dim > 0 && s.value_heads % s.key_heads == 0, op,
           "value_heads must be a multiple of key_heads, all positive");
  check_op(s.scale != 0, op, "scale must not be 0");
  check_activation(op, "q", q, q.rows(), s.keys());
  check_activation(op, "k", k, q.rows(), s.keys());
  check_activation(op, "v", v, q.rows(), s.values());
  check_f32(op, "g", g, q.rows(), s.decays());
  check_f32(op, "beta", beta, q.rows(), s.value_heads);
}

// Of the chunked form: products of rows with states (`states`) and, half of them needed, of rows with rows.
OpWork work_of(const Context& ctx, int64_t T, const GatedDeltaShape& s, double states, double rows) {
  if (!ctx.profile) return {};
  const double chunk = static_cast<double>(kRecurrentChunk), K = static_cast<double>(s.key_dim), V = static_cast<double>(s.value_dim);
  return {2.0 * static_cast<double>(T * s.value_heads) * (states * K * V + rows * chunk / 2 * (K + V))};
}

}  // namespace

void gated_delta(Context& ctx, const Tensor& o, const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& g,
                 const Tensor& beta, std::span<const Sequence> sequences, const GatedDeltaShape& shape, const RecurrentState& state) {
  const char* op = "gated_delta";
  check(op, q, k, v, g, beta, shape);
  check_activation(op, "o", o, q.rows(), shape.values());
  check_recurrence(op, q.rows(), sequences, borders, state, shape.state_columns());
  dispatch(
      ctx, op, [&] { gated_delta_cpu(o, borders, q, k, v, g, beta, sequences, shape, state); }, work_of(ctx, q.rows(), shape, 3, 2));
}

void gated_delta_backward(Context& ctx, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_g, const Tensor& d_beta,
                          const Tensor& d_o, const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& g,
                          const Tensor& beta, std::span<const Sequence> sequences, const GatedDeltaShape& shape) {
  const char* op = "gated_delta_backward";
  check(op, q, k, v, g, beta, shape);
  check_activation(op, "d_o", d_o, q.rows(), shape.values());
  check_activation(op, "d_q", d_q, q.rows(), shape.keys());
  check_activation(op, "d_k", d_k, q.rows(), shape.keys());
  check_activation(op, "d_v", d_v, q.rows(), shape.values());
  check_f32(op, "d_g", d_g, q.rows(), shape.decays());
  check_f32(op, "d_beta", d_beta, q.rows(), shape.value_heads);
  check_op(borders.data != nullptr, op, "borders are those of the forward");
  check_recurrence(op, q.rows(), sequences, borders, {}, shape.state_columns());
  dispatch(
      ctx, op, [&] { gated_delta_backward_cpu(d_q, d_k, d_v, d_g, d_beta, d_o, borders, q, k, v, g, beta, sequences, shape); },
      work_of(ctx, q.rows(), shape, 8, 5));
}

}  // namespace loraine
