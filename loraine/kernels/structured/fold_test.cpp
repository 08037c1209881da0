// Sums over pieces of rows against plain loops in double, with a shorter last piece, strided rows and bf16; one is the other's backward.
#include "loraine/kernels/structured/fold.h"

#include "tests/support/op_check.h"

namespace loraine::fold_test {
namespace {

constexpr int64_t T = 5, C = 11;

std::vector<double> folded(const std::vector<double>& x, int64_t r) {
  std::vector<double> y(static_cast<size_t>(T * r));
  for (int64_t t = 0; t < T; ++t)
    for (int64_t c = 0; c < C; ++c) y[static_cast<size_t>(t * r + c % r)] += x[static_cast<size_t>(t * C + c)];
  return y;
}

TEST(Fold, SumsAndTheirGradients) {
  Context ctx;
  for (const int64_t r : {1, 4, 11}) {
    std::vector<float> x = random_floats(T * C, 1), g = random_floats(T * r, 2), y(static_cast<size_t>(T * r)),
                       d_x = random_floats(T * C, 3);
    fold_columns(ctx, matrix(y, T, r), matrix(x, T, C));
    expect_near(y, folded(doubles(x), r), 1e-6, "y");
    std::vector<double> x64 = doubles(x), want = central_differences(x64, [&] { return inner(folded(x64, r), g); });
    for (size_t i = 0; i < want.size(); ++i) want[i] += static_cast<double>(d_x[i]);
    unfold_columns(ctx, matrix(d_x, T, C), matrix(g, T, r));
    expect_near(d_x, want, 1e-6, "d_x");
  }
}

TEST(Fold, StridedBf16) {
  Context ctx;
  const int64_t r = 4;
  std::vector<bf16> x = to_bf16(random_floats(T * C, 4)), y(static_cast<size_t>(T * (r + 3)));
  const Tensor whole = matrix(y, T, r + 3), part = whole.col_range(2, r);
  fold_columns(ctx, part, matrix(x, T, C));
  std::vector<float> got;
  for (int64_t t = 0; t < T; ++t)
    for (int64_t k = 0; k < r; ++k) got.push_back(bf16_to_f32(y[static_cast<size_t>(t * (r + 3) + 2 + k)]));
  expect_near(got, folded(doubles(to_floats(x)), r), 8e-3, "y in bf16");
  EXPECT_EQ(bf16_to_f32(y[1]), 0.0f);
  EXPECT_EQ(bf16_to_f32(y[2 + r]), 0.0f);
}

}  // namespace
}  // namespace loraine::fold_test
