// Products with w₁ ⊗ w₂ against the whole matrix in double; gradients against differences of it; bf16.
#include "loraine/kernels/structured/kronecker.h"

#include "tests/support/op_check.h"

namespace loraine::kronecker_test {
namespace {

constexpr int64_t T = 6, A = 3, B = 4, C = 5, D = 2;
constexpr float kScale = 1.5f;

std::vector<double> reference(const std::vector<double>& x, const std::vector<double>& w1, const std::vector<double>& w2) {
  std::vector<double> y(static_cast<size_t>(T * A * C));
  for (int64_t t = 0; t < T; ++t)
    for (int64_t a = 0; a < A; ++a)
      for (int64_t c = 0; c < C; ++c)
        for (int64_t b = 0; b < B; ++b)
          for (int64_t d = 0; d < D; ++d)
            y[static_cast<size_t>((t * A + a) * C + c)] += static_cast<double>(kScale) * w1[static_cast<size_t>(a * B + b)] *
                                                           w2[static_cast<size_t>(c * D + d)] * x[static_cast<size_t>((t * B + b) * D + d)];
  return y;
}

TEST(Kronecker, ProductsAndGradients) {
  Context ctx;
  std::vector<float> x = random_floats(T * B * D, 1), w1 = random_floats(A * B, 2), w2 = random_floats(C * D, 3),
                     g = random_floats(T * A * C, 4), y(static_cast<size_t>(T * A * C)), u(static_cast<size_t>(T * B * C)), d_u = u,
                     d_x(x.size()), d_w1(w1.size()), d_w2(w2.size());
  const Tensor one = matrix(w1, A, B), two = matrix(w2, C, D);
  kronecker(ctx, matrix(y, T, A * C), matrix(u, T, B * C), matrix(x, T, B * D), one, two, kScale);
  expect_near(y, reference(doubles(x), doubles(w1), doubles(w2)), 1e-6, "y");
  kronecker_backward(ctx, matrix(d_x, T, B * D), matrix(d_w1, A, B), matrix(d_w2, C, D), matrix(d_u, T, B * C), matrix(g, T, A * C),
                     matrix(x, T, B * D), matrix(u, T, B * C), one, two, kScale);
  std::vector<double> x64 = doubles(x), a = doubles(w1), b = doubles(w2);
  const auto loss = [&] { return inner(reference(x64, a, b), g); };
  expect_near(d_x, central_differences(x64, loss), 1e-5, "d_x");
  expect_near(d_w1, central_differences(a, loss), 1e-5, "d_w1");
  expect_near(d_w2, central_differences(b, loss), 1e-5, "d_w2");
}

TEST(Kronecker, Bf16) {
  Context ctx;
  std::vector<bf16> x = to_bf16(random_floats(T * B * D, 5)), y(static_cast<size_t>(T * A * C)), u(static_cast<size_t>(T * B * C));
  std::vector<float> w1 = random_floats(A * B, 6), w2 = random_floats(C * D, 7);
  kronecker(ctx, matrix(y, T, A * C), matrix(u, T, B * C), matrix(x, T, B * D), matrix(w1, A, B), matrix(w2, C, D), kScale);
  expect_near(to_floats(y), reference(doubles(to_floats(x)), doubles(w1), doubles(w2)), 8e-3, "y in bf16");
}

}  // namespace
}  // namespace loraine::kronecker_test
