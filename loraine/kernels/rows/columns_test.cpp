// Column ops against their formulas in double; the backward of scale_columns by central differences.
#include "loraine/kernels/rows/columns.h"

#include "tests/support/op_check.h"

namespace loraine::columns_test {
namespace {

constexpr int64_t T = 7, C = 150;

std::vector<double> reference(const std::vector<double>& x, const std::vector<double>& scale, const std::vector<double>& offset) {
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = scale[i % C] * x[i] + offset[i % C];
  return y;
}

TEST(Columns, ScaleAndItsBackward) {
  std::vector<float> x = random_floats(T * C, 1), scale = random_floats(C, 2), offset = random_floats(C, 3), r = random_floats(T * C, 4),
                     y(x.size());
  Context ctx;
  scale_columns(ctx, matrix(y, T, C), matrix(x, T, C), scale.data(), offset.data());
  std::vector<double> xd = doubles(x), sd = doubles(scale), od = doubles(offset);
  expect_near(y, reference(xd, sd, od), 1e-6, "y");

  std::vector<float> d_x(x.size()), d_scale(C, 0.5f), ones(C, 1);
  scale_columns(ctx, matrix(d_x, T, C), matrix(r, T, C), scale.data());
  expect_near(d_x, central_differences(xd, [&] { return inner(reference(xd, sd, od), r); }), 1e-6, "d_x");
  column_dots(ctx, d_scale.data(), matrix(r, T, C), matrix(x, T, C), ones.data());
  std::vector<double> want = central_differences(sd, [&] { return inner(reference(xd, sd, od), r); });
  for (double& w : want) w += 0.5;  // it adds
  expect_near(d_scale, want, 1e-6, "d_scale");
}

TEST(Columns, AccumulateInPlaceAndBfloat) {
  std::vector<float> x = random_floats(T * C, 1), y = random_floats(T * C, 5), scale = random_floats(C, 2), offset = random_floats(C, 3);
  Context ctx;
  std::vector<double> want = reference(doubles(x), doubles(scale), doubles(offset));
  for (size_t i = 0; i < want.size(); ++i) want[i] += static_cast<double>(y[i]);
  std::vector<float> sum = y;
  scale_columns(ctx, matrix(sum, T, C), matrix(x, T, C), scale.data(), offset.data(), true);
  expect_near(sum, want, 1e-6, "accumulated");
  std::vector<float> same = x;
  scale_columns(ctx, matrix(same, T, C), matrix(same, T, C), scale.data(), offset.data());
  expect_near(same, reference(doubles(x), doubles(scale), doubles(offset)), 1e-6, "in place");
  std::vector<bf16> narrow = to_bf16(x), out(x.size());
  scale_columns(ctx, matrix(out, T, C), matrix(narrow, T, C), scale.data());
  expect_near(to_floats(out), reference(doubles(to_floats(narrow)), doubles(scale), std::vector<double>(C)), 4e-3, "bf16");
}

TEST(Columns, DotsDivide) {
  std::vector<float> a = random_floats(T * C, 6), b = random_floats(T * C, 7), divisor(C, 4), d(C);
  Context ctx;
  column_dots(ctx, d.data(), matrix(a, T, C), matrix(b, T, C), divisor.data());
  std::vector<double> want(C);
  for (int64_t i = 0; i < T * C; ++i)
    want[static_cast<size_t>(i % C)] += static_cast<double>(a[static_cast<size_t>(i)]) * b[static_cast<size_t>(i)] / 4;
  expect_near(d, want, 1e-6, "d");
}

}  // namespace
}  // namespace loraine::columns_test
