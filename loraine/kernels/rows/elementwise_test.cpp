// Sums, row moves, embedding look-up, and dropout: rate, independence of threads and sites, equal mask in the backward.
#include "loraine/kernels/rows/elementwise.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::elementwise_test {
namespace {

TEST(Elementwise, SumsAndRows) {
  Context ctx;
  std::vector<float> a = random_floats(35, 1), b = random_floats(35, 2), bias = random_floats(7, 3), y(35), want(35);
  for (size_t i = 0; i < 35; ++i) want[i] = a[i] + b[i];
  add(ctx, matrix(y, 5, 7), matrix(a, 5, 7), matrix(b, 5, 7));
  EXPECT_EQ(y, want);
  for (size_t i = 0; i < 35; ++i) want[i] += bias[i % 7];
  add_bias(ctx, matrix(y, 5, 7), bias.data());
  EXPECT_EQ(y, want);

  std::vector<int64_t> rows{3, 0, 4};
  std::vector<float> picked(21), back(35, 9.0f);
  gather_rows(ctx, matrix(picked, 3, 7), matrix(a, 5, 7), rows);
  scatter_rows(ctx, matrix(back, 5, 7), matrix(picked, 3, 7), rows);
  for (size_t i = 0; i < 35; ++i) {
    size_t row = i / 7;
    EXPECT_EQ(back[i], row == 3 || row == 0 || row == 4 ? a[i] : 0.0f);
  }
  EXPECT_EQ(picked[0], a[21]);
  rows[1] = 5;
  EXPECT_THROW(gather_rows(ctx, matrix(picked, 3, 7), matrix(a, 5, 7), rows), Error);
}

TEST(Elementwise, EmbeddingWidensAndChecksIds) {
  Context ctx;
  std::vector<float> table = random_floats(30, 1), y(20);
  std::vector<uint16_t> narrow(30);
  convert(narrow.data(), Dtype::BF16, table.data(), Dtype::F32, 30);
  std::vector<int32_t> tokens{2, 0, 2, 1};
  Tensor t(narrow.data(), Dtype::BF16, {6, 5});
  embedding(ctx, matrix(y, 4, 5), t, tokens);
  for (size_t i = 0; i < 20; ++i) EXPECT_EQ(y[i], bf16_to_f32(narrow[static_cast<size_t>(tokens[i / 5]) * 5 + i % 5]));
  tokens[3] = 6;
  EXPECT_THROW(embedding(ctx, matrix(y, 4, 5), t, tokens), Error);
  tokens[3] = -1;
  EXPECT_THROW(embedding(ctx, matrix(y, 4, 5), t, tokens), Error);
}

std::vector<float> mask(uint64_t seed, uint64_t step, uint64_t site, float p, int64_t T, int64_t C) {
  Context ctx;
  ctx.seed = seed;
  ctx.step = step;
  std::vector<float> ones(static_cast<size_t>(T * C), 1.0f);
  dropout(ctx, matrix(ones, T, C), matrix(ones, T, C), p, site);
  return ones;
}

TEST(Dropout, KeepsWithProbabilityOneMinusP) {
  const int64_t T = 500, C = 400;
  double n = static_cast<double>(T * C);
  for (float p : {0.0f, 0.05f, 0.5f, 0.9f}) {
    std::vector<float> m = mask(1, 2, 3, p, T, C);
    double kept = 0, pairs = 0;
    for (size_t i = 0; i < m.size(); ++i) {
      bool k = m[i] != 0;
      if (k) { ASSERT_FLOAT_EQ(m[i], 1 / (1 - p)); }
      kept += k;
      if (i > 0) pairs += k && m[i - 1] != 0;
    }
    double keep = 1 - p, deviation = std::sqrt(n * keep * p);
    EXPECT_NEAR(kept, n * keep, 5 * deviation + 1e-9) << p;
    EXPECT_NEAR(pairs, n * keep * keep, 5 * std::sqrt(3 * n * keep * p) + 1.5) << p;  // neighbours are independent
  }
}

TEST(Dropout, IsAFunctionOfSeedStepAndSite) {
  std::vector<float> m = mask(1, 2, 3, 0.5f, 40, 40);
  EXPECT_EQ(m, mask(1, 2, 3, 0.5f, 40, 40));
  int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  EXPECT_EQ(m, mask(1, 2, 3, 0.5f, 40, 40));
  omp_set_num_threads(threads);
  for (const std::vector<float>& other : {mask(2, 2, 3, 0.5f, 40, 40), mask(1, 3, 3, 0.5f, 40, 40), mask(1, 2, 4, 0.5f, 40, 40)}) {
    double agree = 0;
    for (size_t i = 0; i < m.size(); ++i) agree += m[i] == other[i];
    EXPECT_NEAR(agree, 800, 100);
  }
}

}  // namespace
}  // namespace loraine::elementwise_test
