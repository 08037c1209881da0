// Factors against what defines them: orthonormal columns, the matrix rebuilt, the best approximation of its rank.
#include "loraine/adapters/low_rank.h"

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::low_rank_test {
namespace {

std::vector<double> product(const Factors& f, int64_t m, int64_t n, int64_t r) {
  std::vector<double> p(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t k = 0; k < r; ++k) {
      const double left = static_cast<double>(f.left[static_cast<size_t>(i * r + k)]) *
                          (f.values.empty() ? 1 : static_cast<double>(f.values[static_cast<size_t>(k)]));
      for (int64_t j = 0; j < n; ++j)
        p[static_cast<size_t>(i * n + j)] += left * static_cast<double>(f.right[static_cast<size_t>(k * n + j)]);
    }
  return p;
}

// Largest |QᵀQ − I|
double not_orthonormal(const std::vector<float>& q, int64_t rows, int64_t r, bool by_rows) {
  double worst = 0;
  for (int64_t a = 0; a < r; ++a)
    for (int64_t b = 0; b < r; ++b) {
      double sum = 0;
      for (int64_t i = 0; i < rows; ++i)
        sum += static_cast<double>(q[static_cast<size_t>(by_rows ? a * rows + i : i * r + a)]) *
               static_cast<double>(q[static_cast<size_t>(by_rows ? b * rows + i : i * r + b)]);
      worst = std::max(worst, std::abs(sum - (a == b)));
    }
  return worst;
}

double squared(const std::vector<double>& x) { return inner(x, x); }

TEST(LowRank, WholeQrGivesTheMatrixBack) {
  const int64_t m = 17, n = 9;
  std::vector<float> w = random_floats(m * n, 3);
  Context ctx;
  const Factors f = first_of_qr(ctx, matrix(w, m, n), n);
  EXPECT_LT(not_orthonormal(f.left, m, n, false), 1e-6);
  std::vector<float> back;
  for (double x : product(f, m, n, n)) back.push_back(static_cast<float>(x));
  expect_near(back, w, 1e-6, "Q R");
  EXPECT_EQ(f.right[static_cast<size_t>(n)], 0);  // R[1, 0]
  EXPECT_LT(f.right[0] * w[0], 0);                // LAPACK's sign
}

// |w − best|² falls short of |w|² by the squares of the singular values, and no approximation of that rank is nearer.
TEST(LowRank, LargestSingularTripletsOfTallWideAndSmallMatrices) {
  Context ctx;
  for (const auto& [m, n, r] : {std::tuple<int64_t, int64_t, int64_t>{40, 88, 4}, {88, 40, 4}, {30, 30, 30}, {300, 120, 6}, {7, 200, 7}}) {
    std::vector<float> w = random_floats(m * n, static_cast<uint32_t>(m));
    const Factors f = largest_singular(ctx, matrix(w, m, n), r);
    EXPECT_LT(not_orthonormal(f.left, m, r, false), 1e-6);
    EXPECT_LT(not_orthonormal(f.right, n, r, true), 1e-6);
    std::vector<double> rest = doubles(w);
    const std::vector<double> near = product(f, m, n, r);
    for (size_t i = 0; i < rest.size(); ++i) rest[i] -= near[i];
    double values = 0;
    for (float s : f.values) values += static_cast<double>(s) * static_cast<double>(s);
    EXPECT_NEAR(squared(rest) + values, squared(doubles(w)), 1e-5 * squared(doubles(w)));
    EXPECT_TRUE(std::is_sorted(f.values.rbegin(), f.values.rend()));
    const Factors again = randomized_singular(ctx, matrix(w, m, n), r, 300, 5);  // converges to the same
    for (int64_t k = 0; k < r; ++k) EXPECT_NEAR(again.values[static_cast<size_t>(k)], f.values[static_cast<size_t>(k)], 2e-3 * f.values[0]);
    EXPECT_LE(again.values[0], f.values[0] * 1.00001f);
  }
}

TEST(LowRank, OfAMatrixOfLowerRankAndOfZeros) {
  const int64_t m = 12, n = 20;
  std::vector<float> w(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) w[static_cast<size_t>(i * n + j)] = static_cast<float>((i + 1) * (j % 3 - 1));
  Context ctx;
  const Factors f = largest_singular(ctx, matrix(w, m, n), 4);
  std::vector<float> back;
  for (double x : product(f, m, n, 4)) back.push_back(static_cast<float>(x));
  expect_near(back, w, 1e-5, "U S V");
  std::vector<float> zeros(static_cast<size_t>(m * n));
  for (float s : largest_singular(ctx, matrix(zeros, m, n), 3).values) EXPECT_EQ(s, 0);
  EXPECT_THROW(largest_singular(ctx, matrix(w, m, n), 13), Error);
}

TEST(LowRank, RandomizedIsFixedByItsSeed) {
  const int64_t m = 50, n = 30;
  std::vector<float> w = random_floats(m * n, 1);
  Context ctx;
  const Factors a = randomized_singular(ctx, matrix(w, m, n), 4, 2, 9), b = randomized_singular(ctx, matrix(w, m, n), 4, 2, 9);
  EXPECT_EQ(a.left, b.left);
  EXPECT_EQ(a.right, b.right);
  EXPECT_NE(a.left, randomized_singular(ctx, matrix(w, m, n), 4, 2, 10).left);
}

// Against the same of the product itself, of factors of full and lower rank, and of more columns than the product has.
TEST(LowRank, SingularTripletsOfAProduct) {
  Context ctx;
  for (const auto& [m, n, r] : {std::tuple<int64_t, int64_t, int64_t>{40, 30, 5}, {12, 50, 11}, {9, 7, 16}, {20, 20, 1}}) {
    std::vector<float> b = random_floats(m * r, 5), a = random_floats(r * n, 6), w(static_cast<size_t>(m * n));
    if (r > 2) std::copy_n(a.data(), n, a.data() + n);  // two equal rows: one rank less
    const Factors f = singular_of_product(ctx, matrix(b, m, r), matrix(a, r, n));
    const auto found = static_cast<int64_t>(f.values.size());
    EXPECT_EQ(found, std::min({m, n, r}));
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < r; ++k)
          sum += static_cast<double>(b[static_cast<size_t>(i * r + k)]) * static_cast<double>(a[static_cast<size_t>(k * n + j)]);
        w[static_cast<size_t>(i * n + j)] = static_cast<float>(sum);
      }
    std::vector<float> back;
    for (const double x : product(f, m, n, found)) back.push_back(static_cast<float>(x));
    expect_near(back, w, 2e-6, "U S V");
    const Factors whole = largest_singular(ctx, matrix(w, m, n), found);
    expect_near(f.values, whole.values, 2e-6, "singular values");
  }
  std::vector<float> zeros(6), a = random_floats(6, 1);
  EXPECT_EQ(singular_of_product(ctx, matrix(zeros, 3, 2), matrix(a, 2, 3)).values, (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace loraine::low_rank_test
