// The Gaussian top-k and its gradient against the formula in double.
#include "loraine/kernels/activations/gaussian_topk.h"

#include "tests/support/op_check.h"

namespace loraine::gaussian_topk_test {
namespace {

std::vector<double> reference(const std::vector<double>& x, int64_t C, double deviations) {
  std::vector<double> out(x.size());
  for (size_t row = 0; row < x.size(); row += static_cast<size_t>(C)) {
    double mean = 0, variance = 0;
    for (size_t c = row; c < row + static_cast<size_t>(C); ++c) mean += x[c] / static_cast<double>(C);
    for (size_t c = row; c < row + static_cast<size_t>(C); ++c) variance += (x[c] - mean) * (x[c] - mean) / static_cast<double>(C);
    for (size_t c = row; c < row + static_cast<size_t>(C); ++c) out[c] = std::max(x[c] - mean - deviations * std::sqrt(variance), 0.0);
  }
  return out;
}

TEST(GaussianTopk, AndItsGradient) {
  const int64_t T = 6, C = 53;
  for (const float deviations : {1.2f, 0.0f, -0.5f}) {
    std::vector<float> x = random_floats(T * C, 1, 2), y(x.size()), d = random_floats(T * C, 2);
    const std::vector<float> d_y = d;
    std::vector<double> in = doubles(x);
    Context ctx;
    gaussian_topk(ctx, matrix(y, T, C), matrix(x, T, C), deviations);
    expect_near(y, reference(in, C, deviations), 1e-6, "what is kept");
    gaussian_topk_backward(ctx, matrix(d, T, C), matrix(x, T, C), deviations);
    expect_near(d,
                central_differences(
                    in, [&] { return inner(reference(in, C, deviations), d_y); }, 1e-7),
                1e-5, "gradient");
    std::vector<bf16> narrow = to_bf16(x), narrow_d = to_bf16(d_y);
    std::vector<double> rounded = doubles(to_floats(narrow));
    const std::vector<float> rounded_d = to_floats(narrow_d);
    gaussian_topk_backward(ctx, matrix(narrow_d, T, C), matrix(narrow, T, C), deviations);
    expect_near(to_floats(narrow_d),
                central_differences(
                    rounded, [&] { return inner(reference(rounded, C, deviations), rounded_d); }, 1e-7),
                1e-2, "gradient in bf16");
  }
}

TEST(GaussianTopk, EqualNumbersHaveNoSpread) {
  std::vector<float> x(8, 3), y(8, 1), d(8, 1);
  Context ctx;
  gaussian_topk(ctx, matrix(y, 1, 8), matrix(x, 1, 8), 1.5f);
  gaussian_topk_backward(ctx, matrix(d, 1, 8), matrix(x, 1, 8), 1.5f);
  EXPECT_EQ(y, std::vector<float>(8, 0));
  EXPECT_EQ(d, std::vector<float>(8, 0));
}

TEST(GaussianTopk, QuantilesOfTheNormalDistribution) {  // scipy.stats.norm.ppf
  EXPECT_FLOAT_EQ(normal_quantile(0.95), 1.6448536f);
  EXPECT_FLOAT_EQ(normal_quantile(0.9), 1.2815516f);
  EXPECT_NEAR(normal_quantile(0.5), 0, 1e-7);
  EXPECT_FLOAT_EQ(normal_quantile(0.001), -3.0902323f);
}

}  // namespace
}  // namespace loraine::gaussian_topk_test
