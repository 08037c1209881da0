// Loops with e^x against double, at every length around a vector's, edges and NaN; nothing outside the row is touched.
#include "loraine/kernels/activations/exp_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace loraine::exp_rows_test {
namespace {

float exp_one(float x) {
  exp_row(&x, 1, 1, 0);
  return x;
}

TEST(ExpRows, IsWithinTwoUlp) {
  std::vector<float> in, out;
  for (double x = -87; x < 88; x += 0.00717) in.push_back(static_cast<float>(x));
  out = in;
  exp_row(out.data(), static_cast<int64_t>(out.size()), 1, 0);
  for (size_t i = 0; i < in.size(); ++i) ASSERT_NEAR(out[i] / std::exp(static_cast<double>(in[i])), 1.0, 2.5e-7) << in[i];
  EXPECT_EQ(exp_one(0.0f), 1.0f);
  EXPECT_EQ(exp_one(-200.0f), 0.0f);
  EXPECT_EQ(exp_one(-INFINITY), 0.0f);
  EXPECT_TRUE(std::isfinite(exp_one(1e30f)));
  EXPECT_TRUE(std::isnan(exp_one(NAN)));
}

TEST(ExpRows, EveryLength) {
  for (int64_t n = 0; n < 70; ++n) {
    std::vector<float> x(static_cast<size_t>(n) + 1);
    for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i * 7 + 1)) * 3;
    double sum = 0, plain = 0;
    float largest = -INFINITY;
    for (int64_t i = 0; i < n; ++i) {
      float v = x[static_cast<size_t>(i)];
      sum += std::exp(0.5 * v - 0.25), plain += std::exp(v - 1.0);
      largest = std::max(largest, v);
    }
    float guard = x.back();
    EXPECT_EQ(max_row(x.data(), n), largest);
    EXPECT_NEAR(sum_exp_row(x.data(), n, 1), plain, 1e-5 * (plain + 1));
    std::vector<float> e = x, scaled = x;
    EXPECT_NEAR(exp_row(e.data(), n, 0.5f, 0.25f), sum, 1e-5 * (sum + 1));
    scale_row(scaled.data(), n, 3);
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      EXPECT_NEAR(e[i], std::exp(0.5 * x[i] - 0.25), 1e-5);
      EXPECT_EQ(scaled[i], x[i] * 3);
    }
    EXPECT_EQ(e.back(), guard);
    EXPECT_EQ(scaled.back(), guard);
  }
}

}  // namespace
}  // namespace loraine::exp_rows_test
