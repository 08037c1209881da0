// Factors of rows and limits, with their gradients, against sums in double.
#include "loraine/kernels/rows/row_factors.h"

#include "tests/support/op_check.h"

namespace loraine::row_factors_test {
namespace {

TEST(RowFactors, ScaleEachRowAndItsGradient) {
  std::vector<float> x = random_floats(5 * 7, 1), factors = random_floats(5, 2);
  std::vector<double> want;
  for (size_t i = 0; i < x.size(); ++i) want.push_back(static_cast<double>(x[i]) * factors[i / 7]);
  Context ctx;
  scale_rows(ctx, matrix(x, 5, 7), factors);
  expect_near(x, want, 1e-6, "rows times factors");
}

TEST(RowFactors, WhatIsClampedHasNoGradient) {
  const std::vector<float> x = random_floats(6 * 9, 3);
  std::vector<float> in = x, y(x.size()), d(x.size(), 2.0f);
  std::vector<double> want, want_d;
  for (const float v : x) {
    want.push_back(std::clamp(static_cast<double>(v), -0.5, 0.5));
    want_d.push_back(std::abs(v) < 0.5f ? 2.0 : 0.0);
  }
  Context ctx;
  clamp(ctx, matrix(y, 6, 9), matrix(in, 6, 9), 0.5f);
  clamp_backward(ctx, matrix(d, 6, 9), matrix(y, 6, 9), 0.5f);
  expect_near(y, want, 1e-7, "clamped");
  expect_near(d, want_d, 1e-7, "gradient");
}

}  // namespace
}  // namespace loraine::row_factors_test
