// Ops with one factor and soft caps against their formulas; a factor of 1 gives the bits of the plain sums.
#include "loraine/kernels/rows/scaled.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "loraine/kernels/rows/elementwise.h"
#include "tests/support/op_check.h"

namespace loraine::scaled_test {
namespace {

constexpr int64_t T = 300, C = 75, kSize = T * C;

TEST(Scaled, ScaleAndAdd) {
  std::vector<float> a = random_floats(kSize, 1), b = random_floats(kSize, 2), y(a.size()), sum(a.size()), rounded(a.size());
  Context ctx;
  std::vector<double> times, added;
  for (size_t i = 0; i < a.size(); ++i) {
    times.push_back(static_cast<double>(a[i]) * 0.22f);
    added.push_back(a[i] + static_cast<double>(b[i]) * 0.22f);
  }
  scale(ctx, matrix(y, T, C), matrix(a, T, C), 0.22f);
  expect_near(y, times, 1e-7, "scale");
  std::vector<float> same = a;
  scale(ctx, matrix(same, T, C), matrix(same, T, C), 0.22f);
  EXPECT_EQ(same, y);
  add_scaled(ctx, matrix(sum, T, C), matrix(a, T, C), matrix(b, T, C), 0.22f);
  expect_near(sum, added, 1e-7, "add_scaled");
  for (bool left : {true, false}) {
    std::vector<float> over = left ? a : b;
    add_scaled(ctx, matrix(over, T, C), left ? matrix(over, T, C) : matrix(a, T, C), left ? matrix(b, T, C) : matrix(over, T, C), 0.22f);
    EXPECT_EQ(over, sum);
  }
  std::vector<float> stream = a;
  std::vector<bf16> narrow(a.size());
  add_rounded_scaled(ctx, matrix(stream, T, C), matrix(narrow, T, C), matrix(b, T, C), 0.22f);
  EXPECT_EQ(stream, sum);
  EXPECT_EQ(narrow, to_bf16(sum));
  stream = a;
  add_rounded_scaled(ctx, matrix(stream, T, C), matrix(rounded, T, C), matrix(b, T, C), 0.22f);
  EXPECT_EQ(rounded, sum);
}

TEST(Scaled, FactorOneIsThePlainSum) {
  std::vector<float> a = random_floats(kSize, 1), b = random_floats(kSize, 2), y(a.size()), want(a.size());
  Context ctx;
  add_scaled(ctx, matrix(y, T, C), matrix(a, T, C), matrix(b, T, C), 1);
  add(ctx, matrix(want, T, C), matrix(a, T, C), matrix(b, T, C));
  EXPECT_EQ(y, want);
  std::vector<bf16> a16 = to_bf16(a), b16 = to_bf16(b), y16(a.size()), want16(a.size());
  add_scaled(ctx, matrix(y16, T, C), matrix(a16, T, C), matrix(b16, T, C), 1);
  add(ctx, matrix(want16, T, C), matrix(a16, T, C), matrix(b16, T, C));
  EXPECT_EQ(y16, want16);
  std::vector<float> sum = a, want_sum = a;
  add_rounded_scaled(ctx, matrix(sum, T, C), matrix(y16, T, C), matrix(b16, T, C), 1);
  add_rounded(ctx, matrix(want_sum, T, C), matrix(want16, T, C), matrix(b16, T, C));
  EXPECT_EQ(sum, want_sum);
  EXPECT_EQ(y16, want16);
  scale(ctx, matrix(y16, T, C), matrix(a16, T, C), 3);
  for (size_t i = 0; i < y16.size(); ++i) EXPECT_EQ(y16[i], f32_to_bf16(bf16_to_f32(a16[i]) * 3));
}

TEST(Scaled, SoftCapAndItsBackward) {
  const float cap = 5;
  std::vector<float> x = random_floats(kSize, 1, 6), r = random_floats(kSize, 2), y(x.size()), first;
  for (size_t i = 0; i < 400; ++i) x[i] *= 1e-3f;
  x[0] = 1e30f, x[1] = -1e30f, x[2] = 0;
  Context ctx;
  const int before = omp_get_max_threads();
  for (int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    soft_cap(ctx, matrix(y, T, C), matrix(x, T, C), cap);
    std::vector<float> d = r, all = y, same = x;
    soft_cap(ctx, matrix(same, T, C), matrix(same, T, C), cap);
    EXPECT_EQ(same, y);
    soft_cap_backward(ctx, matrix(d, T, C), matrix(y, T, C), cap);
    all.insert(all.end(), d.begin(), d.end());
    if (first.empty()) first = all;
    EXPECT_EQ(all, first);
  }
  omp_set_num_threads(before);
  for (size_t i = 0; i < x.size(); ++i) {
    const double slope = 1 / std::pow(std::cosh(std::min(300.0, std::abs(x[i] / static_cast<double>(cap)))), 2);
    ASSERT_NEAR(y[i], cap * std::tanh(x[i] / static_cast<double>(cap)), 3e-7 * std::abs(y[i])) << x[i];
    ASSERT_NEAR(first[x.size() + i], r[i] * slope, 1e-6 * std::abs(r[i])) << x[i];
  }
  std::vector<bf16> narrow = to_bf16(r);
  std::vector<float> wide = to_floats(narrow);
  soft_cap_backward(ctx, matrix(narrow, T, C), matrix(y, T, C), cap);
  soft_cap_backward(ctx, matrix(wide, T, C), matrix(y, T, C), cap);
  EXPECT_EQ(narrow, to_bf16(wide));
  EXPECT_THROW(soft_cap(ctx, matrix(y, T, C), matrix(x, T, C), 0), Error);
}

}  // namespace
}  // namespace loraine::scaled_test
