// Checks of the noise op and the choice of device.
#include "loraine/kernels/training/noise.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void add_noise_cpu(const Tensor& y, float size, uint64_t seed, uint64_t step, uint64_t site);

void add_noise(Context& ctx, const Tensor& y, float size, uint64_t site) {
  check_f32("add_noise", "y", y, y.rows(), y.cols());
  dispatch(ctx, "add_noise", [&] { add_noise_cpu(y, size, ctx.seed, ctx.step, site); });
}

}  // namespace loraine
