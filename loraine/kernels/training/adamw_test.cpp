// AdamW against torch's formula in double over several steps, and the norm.
#include "loraine/kernels/training/adamw.h"

#include "tests/support/op_check.h"

namespace loraine::adamw_test {
namespace {

TEST(AdamW, FollowsTheFormula) {
  const int64_t n = 20000;  // more than one block
  const double lr = 1e-2, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0.1, grad_scale = 0.5;
  std::vector<float> p = random_floats(n, 1), m(n), v(n);
  std::vector<double> pd = doubles(p), md(n), vd(n);
  Context ctx;
  for (int step = 1; step <= 5; ++step) {
    std::vector<float> g = random_floats(n, static_cast<uint32_t>(10 + step));
    AdamW options{.learning_rate = 1e-2f, .weight_decay = 0.1f, .step = step};
    adamw(ctx, matrix(p, n, 1), matrix(m, n, 1), matrix(v, n, 1), matrix(g, n, 1), 0.5f, options);
    for (size_t i = 0; i < n; ++i) {
      double gd = g[i] * grad_scale;
      md[i] = beta1 * md[i] + (1 - beta1) * gd;
      vd[i] = beta2 * vd[i] + (1 - beta2) * gd * gd;
      pd[i] = pd[i] * (1 - lr * decay) -
              lr / (1 - std::pow(beta1, step)) * md[i] / (std::sqrt(vd[i]) / std::sqrt(1 - std::pow(beta2, step)) + eps);
    }
  }
  expect_near(p, pd, 3e-7, "parameter");
  expect_near(m, md, 1e-6, "m");
  expect_near(v, vd, 1e-6, "v");
  double want = 0;
  for (float x : p) want += static_cast<double>(x) * x;
  EXPECT_NEAR(sum_of_squares(ctx, matrix(p, 100, 200)), want, 1e-9 * want);
}

}  // namespace
}  // namespace loraine::adamw_test
