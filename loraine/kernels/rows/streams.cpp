// Checks of the ops on streams and the choice of device.
#include "loraine/kernels/rows/streams.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void mix_streams_cpu(std::span<const Tensor> out, std::span<const Tensor> in, const Tensor& factors, bool transposed);
void mix_streams_factors_cpu(const Tensor& d_factors, std::span<const Tensor> d_out, std::span<const Tensor> in);
void match_size_cpu(const Tensor& y, const Tensor& p, const Tensor& x, float least);
void match_size_backward_cpu(const Tensor& d_p, const Tensor& d_x, const Tensor& d_y, const Tensor& p, const Tensor& x, float least);

namespace {

void check_streams(const char* op, std::span<const Tensor> out, std::span<const Tensor> in, const Tensor& factors) {
  check_op(!out.empty() && !in.empty() && out.size() <= kMostStreams && in.size() <= kMostStreams, op, "too many streams, or none");
  const int64_t T = in[0].rows(), C = in[0].cols();
  for (const Tensor& t : out) check_activation(op, "out", t, T, C);
  for (const Tensor& t : in) check_activation(op, "in", t, T, C);
  check_f32(op, "factors", factors, T, static_cast<int64_t>(out.size() * in.size()));
}

void check_sizes(const char* op, const Tensor& y, const Tensor& p, const Tensor& x) {
  check_activation(op, "y", y, x.rows(), x.cols());
  check_activation(op, "p", p, x.rows(), x.cols());
  check_activation(op, "x", x, x.rows(), x.cols());
}

}  // namespace

void mix_streams(Context& ctx, std::span<const Tensor> out, std::span<const Tensor> in, const Tensor& factors) {
  check_streams("mix_streams", out, in, factors);
  dispatch(ctx, "mix_streams", [&] { mix_streams_cpu(out, in, factors, false); });
}

void mix_streams_backward(Context& ctx, std::span<const Tensor> d_in, std::span<const Tensor> d_out, const Tensor& factors) {
  check_streams("mix_streams_backward", d_out, d_in, factors);
  dispatch(ctx, "mix_streams_backward", [&] { mix_streams_cpu(d_in, d_out, factors, true); });
}

void mix_streams_factors(Context& ctx, const Tensor& d_factors, std::span<const Tensor> d_out, std::span<const Tensor> in) {
  check_streams("mix_streams_factors", d_out, in, d_factors);
  dispatch(ctx, "mix_streams_factors", [&] { mix_streams_factors_cpu(d_factors, d_out, in); });
}

void match_size(Context& ctx, const Tensor& y, const Tensor& p, const Tensor& x, float least) {
  check_sizes("match_size", y, p, x);
  dispatch(ctx, "match_size", [&] { match_size_cpu(y, p, x, least); });
}

void match_size_backward(Context& ctx, const Tensor& d_p, const Tensor& d_x, const Tensor& d_y, const Tensor& p, const Tensor& x,
                         float least) {
  check_sizes("match_size_backward", d_y, p, x);
  check_activation("match_size_backward", "d_p", d_p, x.rows(), x.cols());
  if (d_x.data) check_f32("match_size_backward", "d_x", d_x, x.rows(), x.cols());
  dispatch(ctx, "match_size_backward", [&] { match_size_backward_cpu(d_p, d_x, d_y, p, x, least); });
}

}  // namespace loraine
