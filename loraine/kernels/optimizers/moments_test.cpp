// Moments of 8 bits: the nearest code, zeros stay zeros, what is not finite is seen, 8 bits follow 32. What each update is worth, the
// recorded cases of train/optimizers check.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "loraine/core/error.h"
#include "loraine/core/quant_state.h"
#include "loraine/kernels/optimizers/adaptive.h"
#include "loraine/kernels/optimizers/momentum.h"
#include "tests/support/op_check.h"

namespace loraine::moments_test {
namespace {

// A moment of n elements in memory of its own.
struct Packed {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  Packed(int64_t n) : codes(static_cast<size_t>(n)), scales(static_cast<size_t>(moment_blocks(n))) {}
  Moment view(bool with_sign) {
    return {Tensor(codes.data(), Dtype::U8, {static_cast<int64_t>(codes.size()), 1}),
            Tensor(scales.data(), Dtype::F32, {static_cast<int64_t>(scales.size())}), with_sign};
  }
};

TEST(Moments, TakeTheNearestCode) {
  for (const bool with_sign : {true, false}) {
    std::vector<float> x = random_floats(kMomentBlock, 5), back(kMomentBlock);
    if (!with_sign)
      for (float& v : x) v *= v;
    x[3] = 0;
    Packed packed(kMomentBlock);
    const Moment moment = packed.view(with_sign);
    write_moment(moment, x.data(), 0, kMomentBlock);
    read_moment(back.data(), moment, 0, kMomentBlock);
    const float* map = dynamic_map(with_sign);
    for (size_t i = 0; i < x.size(); ++i) {
      float least = std::numeric_limits<float>::infinity();
      for (int k = 0; k < 256; ++k) least = std::min(least, std::fabs(map[k] * packed.scales[0] - x[i]));
      EXPECT_LE(std::fabs(back[i] - x[i]), least * (1 + 1e-5f) + 1e-12f) << i;
    }
    EXPECT_EQ(back[3], 0);
  }
}

TEST(Moments, ZerosAndWhatIsNotFinite) {
  std::vector<float> x(300), back(300, 9.0f);
  Packed packed(300);
  const Moment moment = packed.view(true);
  write_moment(moment, x.data(), 0, kMomentBlock);
  read_moment(back.data(), moment, 0, kMomentBlock);
  EXPECT_EQ(back[17], 0);
  x[40] = std::numeric_limits<float>::quiet_NaN();
  write_moment(moment, x.data(), 0, kMomentBlock);
  EXPECT_TRUE(std::isnan(packed.scales[0]));
  x[40] = std::numeric_limits<float>::infinity();
  write_moment(moment, x.data(), 0, kMomentBlock);
  EXPECT_FALSE(std::isfinite(packed.scales[0]));
}

TEST(Moments, EightBitsFollowThirtyTwo) {
  const int64_t n = 5000;  // its last block is a short one
  std::vector<float> p = random_floats(n, 1), p8 = p, m(n), v(n), g = random_floats(n, 2);
  for (float& x : g) x += x < 0 ? -0.5f : 0.5f;  // none far below its block's largest, which 8 bits would lose
  Packed m8(n), v8(n);
  Context ctx;
  for (int64_t step = 1; step <= 4; ++step) {
    adam(ctx, {matrix(p, n, 1), matrix(g, n, 1), 1, 1e-2, 0.1, step}, {matrix(m, n, 1)}, {matrix(v, n, 1)}, {});
    adam(ctx, {matrix(p8, n, 1), matrix(g, n, 1), 1, 1e-2, 0.1, step}, m8.view(true), v8.view(false), {});
  }
  expect_near(p8, doubles(p), 1e-3, "8 bits beside 32");
}

TEST(Updates, CheckTheirStates) {
  std::vector<float> p(10), g(10), m(9);
  Context ctx;
  EXPECT_THROW(lion(ctx, {matrix(p, 10, 1), matrix(g, 10, 1)}, {matrix(m, 9, 1)}, {}), Error);
  EXPECT_THROW(sgd(ctx, {matrix(p, 10, 1), matrix(m, 9, 1)}, Tensor(), {}), Error);
  EXPECT_THROW(lion(ctx, {matrix(p, 10, 1), matrix(g, 10, 1), 1, 0, 0, 0}, {matrix(g, 10, 1)}, {}), Error);
}

}  // namespace
}  // namespace loraine::moments_test
