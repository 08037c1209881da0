// The noise is uniform, of the size asked for, the same at the same place, another elsewhere.
#include "loraine/kernels/training/noise.h"

#include "tests/support/op_check.h"

namespace loraine::noise_test {
namespace {

std::vector<float> noise(uint64_t seed, uint64_t step, uint64_t site, float size = 0.25f, int64_t T = 64, int64_t C = 1000) {
  std::vector<float> y(static_cast<size_t>(T * C));
  Context ctx;
  ctx.seed = seed;
  ctx.step = step;
  add_noise(ctx, matrix(y, T, C), size, site);
  return y;
}

TEST(Noise, IsUniform) {
  const std::vector<float> y = noise(1, 2, 3);
  double mean = 0, square = 0, low = 0, high = 0;
  for (float v : y) {
    mean += static_cast<double>(v);
    square += static_cast<double>(v) * static_cast<double>(v);
    low = std::min(low, static_cast<double>(v));
    high = std::max(high, static_cast<double>(v));
  }
  const double n = static_cast<double>(y.size());
  EXPECT_NEAR(mean / n, 0, 0.25 * 0.01);
  EXPECT_NEAR(square / n, 0.25 * 0.25 / 3, 0.25 * 0.25 / 3 * 0.02);
  EXPECT_GE(low, -0.25);
  EXPECT_LE(high, 0.25);
  EXPECT_LT(low, -0.249);
  EXPECT_GT(high, 0.249);
}

TEST(Noise, IsAFunctionOfItsPlaceAndIsAdded) {
  const std::vector<float> y = noise(1, 2, 3);
  EXPECT_EQ(y, noise(1, 2, 3));
  EXPECT_NE(y, noise(2, 2, 3));
  EXPECT_NE(y, noise(1, 3, 3));
  EXPECT_NE(y, noise(1, 2, 4));
  EXPECT_NE(y[0], y[1000]);
  std::vector<float> on_top(y.size(), 1.0f);
  Context ctx;
  ctx.seed = 1;
  ctx.step = 2;
  add_noise(ctx, matrix(on_top, 64, 1000), 0.25f, 3);
  for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(on_top[i], 1.0f + y[i]);
}

}  // namespace
}  // namespace loraine::noise_test
