// A step of HQQ's solver on every instruction set against the formula in double.
#include "loraine/kernels/rows/half_quadratic.h"

#include <hwy/targets.h>

#include "tests/support/op_check.h"

namespace loraine::half_quadratic_test {
namespace {

TEST(HalfQuadratic, EveryInstructionSetIsTheFormula) {
  for (int64_t left = hwy::SupportedTargets(); left; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    for (const int64_t n : {8, 24, 64, 131}) {
      std::vector<float> x = random_floats(n, 9);
      for (float& value : x) value *= 0.1f;
      x[3] = 0;
      const RoundedGroup group{x.data(), n, 30.0f, 7.25f, 15.0f};
      double error = 0, zeros = 0;
      std::vector<uint8_t> codes(static_cast<size_t>(n));
      group_codes(codes.data(), group);
      for (int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>(i);
        const float q = std::clamp(std::nearbyint(x[at] * 30.0f + 7.25f), 0.0f, 15.0f);
        EXPECT_EQ(static_cast<float>(codes[at]), q);
        const double rest = static_cast<double>(x[at]) - (static_cast<double>(q) - 7.25) / 30, size = std::fabs(rest);
        const double e = size > 0 ? std::copysign(std::max(size - std::pow(size, -0.3) / 10, 0.0), rest) : 0;
        error += size;
        zeros += static_cast<double>(q) - (static_cast<double>(x[at]) - e) * 30;
      }
      float next = 0;
      EXPECT_NEAR(half_quadratic_step(next, group, 10, 0.7f), error, 1e-5 * error) << hwy::TargetName(left & -left) << " " << n;
      EXPECT_NEAR(next, zeros / static_cast<double>(n), 2e-6) << hwy::TargetName(left & -left) << " " << n;
    }
  }
  hwy::SetSupportedTargetsForTest(0);
}

}  // namespace
}  // namespace loraine::half_quadratic_test
