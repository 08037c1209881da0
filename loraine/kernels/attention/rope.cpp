// Checks of the rotary embedding and the choice of device.
#include "loraine/kernels/attention/rope.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void rope_cpu(const Tensor& x, int64_t head_dim, std::span<const int32_t> positions, std::span<const float> inverse_frequencies,
              float scale, float direction, RopeLayout layout, int64_t first);

namespace {
void run(Context& ctx, const char* op, const Tensor& x, int64_t head_dim, std::span<const int32_t> positions,
         std::span<const float> frequencies, float scale, float direction, RopeLayout layout, int64_t first) {
  check_activation(op, "x", x, static_cast<int64_t>(positions.size()), x.cols());
  check_op(head_dim > 0 && head_dim % 2 == 0 && x.cols() % head_dim == 0, op, "the columns of x must be whole heads of even size");
  check_op(first >= 0 && first + static_cast<int64_t>(frequencies.size()) * 2 <= head_dim, op,
           "the columns that turn, two per frequency, reach beyond the head");
  dispatch(ctx, op, [&] { rope_cpu(x, head_dim, positions, frequencies, scale, direction, layout, first); });
}
}  // namespace

void rope(Context& ctx, const Tensor& x, int64_t head_dim, std::span<const int32_t> positions, std::span<const float> inverse_frequencies,
          float scale, RopeLayout layout, int64_t first) {
  run(ctx, "rope", x, head_dim, positions, inverse_frequencies, scale, 1, layout, first);
}

void rope_backward(Context& ctx, const Tensor& d_x, int64_t head_dim, std::span<const int32_t> positions,
                   std::span<const float> inverse_frequencies, float scale, RopeLayout layout, int64_t first) {
  run(ctx, "rope_backward", d_x, head_dim, positions, inverse_frequencies, scale, -1, layout, first);
}

}  // namespace loraine
