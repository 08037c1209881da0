// Checks of the causal convolution and the choice of device.
#include "loraine/kernels/sequence/causal_conv.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void causal_conv_cpu(const Tensor& y, const Tensor& x, const Tensor& weight, const float* bias, std::span<const Sequence> sequences,
                     const Tensor& state, std::span<const int64_t> slots, bool silu);
void causal_conv_backward_cpu(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& weight, const float* bias,
                              std::span<const Sequence> sequences, bool silu);
void causal_conv_weight_gradient_cpu(const Tensor& d_weight, float* d_bias, const Tensor& d_y, const Tensor& x, const Tensor& weight,
                                     const float* bias, std::span<const Sequence> sequences, bool silu);

namespace {
void check(const char* op, const Tensor& y, const Tensor& x, const Tensor& weight, std::span<const Sequence> sequences, bool with_state) {
  check_activation(op, "x", x, x.rows(), x.cols());
  check_activation(op, "y", y, x.rows(), x.cols());
  const int64_t taps = weight.cols();
  check_f32(op, "weight", weight, x.cols(), taps);
  check_op(weight.contiguous(), op, "weight must be contiguous");
  if (taps < 1 || taps > kMaxConvTaps) {
    throw Error(ErrorKind::unsupported, fmt::format("{}: the convolution has {} taps; 1 to {} are built", op, taps, kMaxConvTaps));
  }
  for (const Sequence& s : sequences) {
    if (s.start < 0 || s.length < 0 || s.start + s.length > x.rows() || s.length > s.kv_length) {
      throw Error(ErrorKind::internal, fmt::format("{}: a sequence of {} rows from {} on, {} with those before, does not lie in x {}", op,
                                                   s.length, s.start, s.kv_length, x.shape_text()));
    }
    check_op(with_state || s.length == s.kv_length, op, "a sequence goes on, and there is no state to go on from");
  }
}
}  // namespace

void causal_conv(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& weight, const float* bias,
                 std::span<const Sequence> sequences, const Tensor& state, std::span<const int64_t> slots, bool silu) {
  check("causal_conv", y, x, weight, sequences, state.data != nullptr);
  if (state.data) {
    check_f32("causal_conv", "state", state, state.rows(), (weight.cols() - 1) * x.cols());
    check_op(slots.size() == sequences.size(), "causal_conv", "there must be one slot per sequence");
    for (int64_t slot : slots) {
      if (slot >= 0 && slot < state.rows()) continue;
      throw Error(ErrorKind::internal, fmt::format("causal_conv: slot {} is outside [0, {})", slot, state.rows()));
    }
  }
  dispatch(ctx, "causal_conv", [&] { causal_conv_cpu(y, x, weight, bias, sequences, state, slots, silu); });
}

void causal_conv_backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& weight, const float* bias,
                          std::span<const Sequence> sequences, bool silu) {
  check("causal_conv_backward", d_x, x, weight, sequences, false);
  check_activation("causal_conv_backward", "d_y", d_y, x.rows(), x.cols());
  dispatch(ctx, "causal_conv_backward", [&] { causal_conv_backward_cpu(d_x, d_y, x, weight, bias, sequences, silu); });
}

void causal_conv_weight_gradient(Context& ctx, const Tensor& d_weight, float* d_bias, const Tensor& d_y, const Tensor& x,
                                 const Tensor& weight, const float* bias, std::span<const Sequence> sequences, bool silu) {
  check("causal_conv_weight_gradient", d_y, x, weight, sequences, false);
  check_f32("causal_conv_weight_gradient", "d_weight", d_weight, weight.rows(), weight.cols());
  check_op(d_weight.contiguous(), "causal_conv_weight_gradient", "d_weight must be contiguous");
  dispatch(ctx, "causal_conv_weight_gradient",
           [&] { causal_conv_weight_gradient_cpu(d_weight, d_bias, d_y, x, weight, bias, sequences, silu); });
}

}  // namespace loraine
