// The load-balancing loss of two layers against its formula in double, and its gradient into each of them.
#include "loraine/kernels/experts/balance.h"

#include <omp.h>

#include <numeric>

#include "tests/support/op_check.h"

namespace loraine::balance_test {
namespace {

double reference(const std::vector<double>& logits, int64_t E, int64_t K) {
  const auto rows = static_cast<int64_t>(logits.size()) / E;
  std::vector<double> f(static_cast<size_t>(E)), p(f.size());
  for (int64_t t = 0; t < rows; ++t) {
    const double* row = logits.data() + t * E;
    std::vector<int64_t> order(static_cast<size_t>(E));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return row[a] > row[b]; });
    double sum = 0;
    for (int64_t e = 0; e < E; ++e) sum += std::exp(row[e]);
    for (int64_t e = 0; e < E; ++e) p[static_cast<size_t>(e)] += std::exp(row[e]) / sum / static_cast<double>(rows);
    for (int64_t k = 0; k < K; ++k) f[static_cast<size_t>(order[static_cast<size_t>(k)])] += 1 / static_cast<double>(rows);
  }
  return static_cast<double>(E) * inner(f, p);
}

TEST(Balance, LossAndGradientOverAllLayers) {
  const int64_t T = 70, E = 12, K = 3;
  std::vector<float> all = random_floats(2 * T * E, 1);
  const Tensor logits = matrix(all, 2 * T, E);
  std::vector<double> in = doubles(all);
  const std::vector<double> want = central_differences(in, [&] { return 0.02 * reference(in, E, K); });
  Context ctx;
  const int threads = omp_get_max_threads();
  double loss = 0;
  std::vector<float> first;
  BalanceSums sums(E);
  for (int n : {1, 2, 3}) {
    omp_set_num_threads(n);
    sums.clear();
    EXPECT_EQ(balance_loss(sums), 0);
    for (int64_t layer = 0; layer < 2; ++layer) add_balance(ctx, sums, logits.row_range(layer * T, T), K);
    std::vector<float> d(all.size(), 1e-4f);
    for (int64_t layer = 0; layer < 2; ++layer)
      balance_backward(ctx, matrix(d, 2 * T, E).row_range(layer * T, T), logits.row_range(layer * T, T), sums, 0.02);
    if (n == 1) {
      loss = balance_loss(sums), first = d;
      EXPECT_NEAR(loss, reference(in, E, K), 1e-6 * loss);
      for (float& v : d) v -= 1e-4f;  // it is added
      expect_near(d, want, 1e-5, "d_logits");
    }
    EXPECT_EQ(loss, balance_loss(sums));
    EXPECT_TRUE(n == 1 || d == first);
  }
  omp_set_num_threads(threads);
  sums.clear();
  std::vector<float> d(all.size());
  add_balance(ctx, sums, logits, K);
  balance_backward(ctx, matrix(d, 2 * T, E), logits, sums, 0.02);
  expect_near(d, want, 1e-5, "d_logits of one layer as long as two");
}

}  // namespace
}  // namespace loraine::balance_test
