// Sparse products against the whole matrix in double; gradients against differences of it; empty rows; bf16.
#include "loraine/kernels/structured/sparse_rows.h"

#include "tests/support/op_check.h"

namespace loraine::sparse_rows_test {
namespace {

constexpr int64_t T = 6, kIn = 5, kOut = 4;
const std::vector<int32_t> kStarts = {0, 2, 2, 5, 6}, kColumns = {1, 4, 0, 2, 3, 1};

std::vector<double> reference(const std::vector<double>& x, const std::vector<double>& values) {
  std::vector<double> y(static_cast<size_t>(T * kOut));
  for (int64_t t = 0; t < T; ++t)
    for (size_t o = 0; o < kOut; ++o)
      for (size_t i = static_cast<size_t>(kStarts[o]); i < static_cast<size_t>(kStarts[o + 1]); ++i)
        y[static_cast<size_t>(t * kOut) + o] += values[i] * x[static_cast<size_t>(t * kIn + kColumns[i])];
  return y;
}

TEST(SparseRows, ProductsAndGradients) {
  Context ctx;
  std::vector<float> x = random_floats(T * kIn, 1), values = random_floats(6, 2), g = random_floats(T * kOut, 3),
                     y(static_cast<size_t>(T * kOut)), d_x(x.size()), d_values(values.size());
  const SparseRows s{kStarts, kColumns, values, kIn};
  multiply_sparse(ctx, matrix(y, T, kOut), matrix(x, T, kIn), s);
  expect_near(y, reference(doubles(x), doubles(values)), 1e-6, "y");
  multiply_sparse_backward(ctx, matrix(d_x, T, kIn), d_values, matrix(g, T, kOut), matrix(x, T, kIn), s);
  std::vector<double> x64 = doubles(x), v = doubles(values);
  const auto loss = [&] { return inner(reference(x64, v), g); };
  expect_near(d_x, central_differences(x64, loss), 1e-5, "d_x");
  expect_near(d_values, central_differences(v, loss), 1e-5, "d_values");
}

TEST(SparseRows, Bf16) {
  Context ctx;
  std::vector<bf16> x = to_bf16(random_floats(T * kIn, 4)), y(static_cast<size_t>(T * kOut));
  std::vector<float> values = random_floats(6, 5);
  multiply_sparse(ctx, matrix(y, T, kOut), matrix(x, T, kIn), {kStarts, kColumns, values, kIn});
  expect_near(to_floats(y), reference(doubles(to_floats(x)), doubles(values)), 8e-3, "y in bf16");
}

}  // namespace
}  // namespace loraine::sparse_rows_test
