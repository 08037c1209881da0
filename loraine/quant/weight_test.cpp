// A weight of several parts equals its stacked matrix: product, bias, and input gradient.
#include "loraine/quant/weight.h"

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::weight_test {
namespace {

TEST(Weight, PartsAreStackedAlongOut) {
  const int64_t T = 6, in = 11;
  std::vector<float> a = random_floats(4 * in, 1), b = random_floats(7 * in, 2), bias = random_floats(7, 3), x = random_floats(T * in, 4);
  Weight weight;
  weight.parts.resize(2);
  weight.parts[0].weight = matrix(a, 4, in);
  weight.parts[1].weight = matrix(b, 7, in);
  weight.parts[1].bias = bias.data();
  EXPECT_EQ(weight.in(), in);
  ASSERT_EQ(weight.out(), 11);
  auto w = [&](int64_t n, int64_t k) { return n < 4 ? a[static_cast<size_t>(n * in + k)] : b[static_cast<size_t>((n - 4) * in + k)]; };

  std::vector<float> y(T * 11, 5.0f), d_x(T * in, 5.0f), d_y = random_floats(T * 11, 6);
  std::vector<double> want_y, want_d_x;
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t n = 0; n < 11; ++n) {
      double sum = n < 4 ? 0 : bias[static_cast<size_t>(n - 4)];
      for (int64_t k = 0; k < in; ++k) sum += static_cast<double>(x[static_cast<size_t>(t * in + k)]) * w(n, k);
      want_y.push_back(sum);
    }
    for (int64_t k = 0; k < in; ++k) {
      double sum = 0;
      for (int64_t n = 0; n < 11; ++n) sum += static_cast<double>(d_y[static_cast<size_t>(t * 11 + n)]) * w(n, k);
      want_d_x.push_back(sum);
    }
  }
  Context ctx;
  multiply_weight(ctx, matrix(y, T, 11), weight, matrix(x, T, in));
  expect_near(y, want_y, 1e-6, "y");
  multiply_weight_backward(ctx, matrix(d_x, T, in), weight, matrix(d_y, T, 11), false);
  expect_near(d_x, want_d_x, 1e-6, "d_x");
  multiply_weight_backward(ctx, matrix(d_x, T, in), weight, matrix(d_y, T, 11), true);
  for (double& v : want_d_x) v *= 2;
  expect_near(d_x, want_d_x, 1e-6, "d_x twice");
  EXPECT_THROW(multiply_weight(ctx, matrix(x, T, in), weight, matrix(y, T, 11).col_range(0, 5)), Error);
}

}  // namespace
}  // namespace loraine::weight_test
