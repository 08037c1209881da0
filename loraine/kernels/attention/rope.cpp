// Checks of the rotary embedding and the choice of device.
#include "loraine/kernels/attention/rope.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void rope_cpu(const Tensor& x, int64_t head_dim, std::span<const int32_t> positions, std::span<const float> inverse_frequencies,
              float scale, float direction);

namespace {
void run(Context& ctx, const char* op, const Tensor& x, int64_t head_dim, std::span<const int32_t> positions,
         std::span<const float> frequencies, float scale, float direction) {
  check_activation(op, "x", x, static_cast<int64_t>(positions.size()), x.cols());
  check_op(head_dim > 0 && head_dim % 2 == 0 && x.cols() % head_dim == 0, op, "the columns of x must be whole heads of even size");
  check_op(static_cast<int64_t>(frequencies.size()) * 2 <= head_dim, op, "there are more frequencies than head_dim / 2");
  dispatch(ctx, op, [&] { rope_cpu(x, head_dim, positions, frequencies, scale, direction); });
}
}  // namespace

void rope(Context& ctx, const Tensor& x, int64_t head_dim, std::span<const int32_t> positions, std::span<const float> inverse_frequencies,
          float scale) {
  run(ctx, "rope", x, head_dim, positions, inverse_frequencies, scale, 1);
}

void rope_backward(Context& ctx, const Tensor& d_x, int64_t head_dim, std::span<const int32_t> positions,
                   std::span<const float> inverse_frequencies, float scale) {
  run(ctx, "rope_backward", d_x, head_dim, positions, inverse_frequencies, scale, -1);
}

}  // namespace loraine
