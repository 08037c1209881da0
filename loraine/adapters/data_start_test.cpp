// Starts out of the data: what their factors have to give back, and ranks by explained variance.
#include "loraine/adapters/data_start.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "loraine/adapters/dense_solve.h"
#include "loraine/adapters/lora.h"
#include "loraine/adapters/start.h"
#include "loraine/core/error.h"

namespace loraine::data_start_test {
namespace {

std::vector<float> drawn(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = normal(random);
  return values;
}

Tensor matrix(std::vector<float>& values, int64_t rows, int64_t cols) { return {values.data(), Dtype::F32, {rows, cols}}; }

// s B A [out, in]
std::vector<double> product_of(const Tensor& a, const Tensor& b, double s) {
  std::vector<double> all(static_cast<size_t>(b.rows() * a.cols()));
  for (int64_t o = 0; o < b.rows(); ++o)
    for (int64_t i = 0; i < a.cols(); ++i)
      for (int64_t k = 0; k < a.rows(); ++k)
        all[static_cast<size_t>(o * a.cols() + i)] +=
            s * static_cast<double>(b.f32()[o * a.rows() + k]) * static_cast<double>(a.f32()[k * a.cols() + i]);
  return all;
}

std::vector<double> covariance_of(int64_t rows, int64_t n, uint32_t seed) {
  const std::vector<float> x = drawn(rows * n, seed);
  std::vector<double> c(static_cast<size_t>(n * n));
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        c[static_cast<size_t>(i * n + j)] +=
            static_cast<double>(x[static_cast<size_t>(t * n + i)]) * static_cast<double>(x[static_cast<size_t>(t * n + j)]);
  return c;
}

TEST(DataStart, APseudoInverseInverts) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{5, 9}, {9, 5}, {6, 6}}) {
    const std::vector<float> values = drawn(rows * cols, 3);
    const std::vector<double> m(values.begin(), values.end()), inverse = pseudo_inverse(m, rows, cols);
    for (int64_t i = 0; i < rows; ++i)  // m m⁺ m = m
      for (int64_t j = 0; j < cols; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < cols; ++k)
          for (int64_t l = 0; l < rows; ++l)
            sum += m[static_cast<size_t>(i * cols + k)] * inverse[static_cast<size_t>(k * rows + l)] * m[static_cast<size_t>(l * cols + j)];
        EXPECT_NEAR(sum, m[static_cast<size_t>(i * cols + j)], 1e-9);
      }
  }
  std::vector<double> nothing(4);
  EXPECT_FALSE(factor_cholesky(nothing, 2));
  EXPECT_TRUE(pseudo_inverse(nothing, 2, 2).empty());
}

// With all triplets s B A is W; ipm and kpm with half of them each make it up together.
TEST(DataStart, CordaTakesPartsOfTheWeight) {
  Context ctx;
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{6, 10}, {10, 6}}) {
    std::vector<float> w = drawn(out * in, 5), a(static_cast<size_t>(6 * in)), b(static_cast<size_t>(out * 6));
    const std::vector<double> covariance = covariance_of(20, in, 6);
    const float s = 2;
    for (const char* method : {"ipm", "kpm"}) {
      corda_start(ctx, matrix(a, 6, in), matrix(b, out, 6), matrix(w, out, in), covariance, s, {method});
      const std::vector<double> all = product_of(matrix(a, 6, in), matrix(b, out, 6), 2);
      for (size_t i = 0; i < all.size(); ++i) EXPECT_NEAR(all[i], static_cast<double>(w[i]), 2e-5) << method;
    }
    std::vector<double> sum(w.size());
    for (const char* method : {"ipm", "kpm"}) {
      corda_start(ctx, matrix(a, 3, in), matrix(b, out, 3), matrix(w, out, in), covariance, s, {method});
      const std::vector<double> half = product_of(matrix(a, 3, in), matrix(b, out, 3), 2);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += half[i];
    }
    for (size_t i = 0; i < sum.size(); ++i) EXPECT_NEAR(sum[i], static_cast<double>(w[i]), 2e-5);
    std::vector<float> large(static_cast<size_t>(7 * (in + out)));
    EXPECT_THROW(corda_start(ctx, matrix(large, 7, in), Tensor(large.data(), Dtype::F32, {out, 7}), matrix(w, out, in), covariance, s, {}),
                 Error);
  }
}

TEST(DataStart, DirectionsOfBatchesAreThoseOfAllRows) {
  Context ctx;
  const int64_t n = 6, rows = 40;
  std::vector<float> x = drawn(rows * n, 8);
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t c = 0; c < n; ++c) x[static_cast<size_t>(t * n + c)] = x[static_cast<size_t>(t * n + c)] * static_cast<float>(n - c) + 3;
  IncrementalPca whole(n), pieces(n);
  std::vector<float> all = x, first(x.begin(), x.begin() + 24 * n), second(x.begin() + 24 * n, x.end());
  whole.add(ctx, matrix(all, rows, n));
  pieces.add(ctx, matrix(first, 24, n));
  pieces.add(ctx, matrix(second, 16, n));  // all directions are kept, so nothing is lost
  double sum = 0;
  for (size_t k = 0; k < static_cast<size_t>(n); ++k) {
    EXPECT_NEAR(pieces.explained()[k], whole.explained()[k], 1e-5);
    sum += whole.explained()[k];
  }
  EXPECT_NEAR(sum, 1, 1e-5);
  for (size_t i = 0; i < whole.components().size(); ++i) EXPECT_NEAR(pieces.components()[i], whole.components()[i], 1e-3);
}

TEST(DataStart, RanksGoWhereTheyExplainMost) {
  Context ctx;
  std::vector<IncrementalPca> sources;
  for (const float narrow : {1.0f, 0.1f}) {  // the second has one direction and little else
    std::vector<float> x = drawn(30 * 4, 9);
    for (size_t i = 0; i < x.size(); ++i)
      if (i % 4) x[i] *= narrow;
    sources.emplace_back(4).add(ctx, matrix(x, 30, 4));
  }
  std::vector<EvaLayer> layers = {{"a.q", 0, 2, 4}, {"b.o", 1, 2, 4}, {"a.k", 0, 2, 4}};
  const std::vector<int64_t> ranks = eva_ranks(layers, sources, {4, 4});
  EXPECT_EQ(ranks[0] + ranks[1] + ranks[2], 6);
  EXPECT_EQ(ranks[1], 1);
  EXPECT_GE(ranks[0], ranks[2]);
  LoraConfig config;
  config.r = 2;
  config.lora_alpha = 4;
  config.target_modules = {"q", "k", "o"};
  const LoraConfig made = eva_config(config, layers, {3, 0, 2});
  EXPECT_EQ(made.target_modules, (std::vector<std::string>{"a.q", "a.k"}));
  ASSERT_EQ(made.rank_pattern.size(), 1u);
  EXPECT_EQ(made.rank_pattern[0], std::pair(std::string("a.q"), int64_t{3}));
  EXPECT_EQ(made.alpha_pattern[0], std::pair(std::string("a.q"), 6.0));
}

TEST(DataStart, LoraGaNeedsTwiceItsRank) {
  Context ctx;
  std::vector<float> g = drawn(6 * 9, 4), a(static_cast<size_t>(4 * 9)), b(static_cast<size_t>(6 * 4));
  EXPECT_THROW(lora_ga_start(ctx, matrix(a, 4, 9), matrix(b, 6, 4), matrix(g, 6, 9), matrix(g, 6, 9), 1, {}, "layer", 1), Error);
  for (const char* direction : {"ArBr", "A2rBr", "ArB2r", "random"}) {  // rows of A are of length 1 and at right angles
    lora_ga_start(ctx, matrix(a, 3, 9), matrix(b, 6, 3), matrix(g, 6, 9), matrix(g, 6, 9), 1, {direction, "unit", 16}, "layer", 1);
    for (int64_t i = 0; i < 3; ++i)
      for (int64_t j = 0; j < 3; ++j) {
        double dot = 0;
        for (int64_t k = 0; k < 9; ++k)
          dot += static_cast<double>(a[static_cast<size_t>(i * 9 + k)]) * static_cast<double>(a[static_cast<size_t>(j * 9 + k)]);
        EXPECT_NEAR(dot, i == j ? 1 : 0, 1e-5) << direction;
      }
  }
}

// over_whole_base and back.
TEST(DataStart, AnAdapterAndItsStartComeApartAgain) {
  const auto set_of = [](int64_t r, uint32_t seed) {
    AdapterSet set;
    set.sites.push_back(
        std::make_unique<Lora>(5, std::vector<LoraPart>{{0, 0, 4, r, 2.0f, "model.layers.0.self_attn.q_proj"}}, 0.0f, 0, false));
    uint32_t next = seed;
    for (const Parameter& p : set.parameters()) {
      const std::vector<float> values = drawn(p.value.numel(), next++);
      std::copy(values.begin(), values.end(), p.value.f32());
    }
    return set;
  };
  const AdapterSet trained = set_of(2, 1), start = set_of(2, 7), again = set_of(2, 11), start_again = set_of(2, 12);
  Weight weight;
  std::vector<float> w(20);
  weight.parts.emplace_back();
  weight.parts[0].name = "model.layers.0.self_attn.q_proj";
  weight.parts[0].weight = matrix(w, 4, 5);
  LoraConfig config;
  config.r = 2;
  config.lora_alpha = 4;
  config.target_modules = {"q_proj"};
  config.init_lora_weights = "corda";
  const AdapterSet doubled = over_whole_base(trained, start, {&weight}, config);
  EXPECT_EQ(config.r, 4);
  EXPECT_EQ(config.init_lora_weights, "true");
  split_whole_base(doubled, again, start_again);
  for (const auto& [one, other] : {std::pair(&trained, &again), {&start, &start_again}}) {
    const std::vector<Parameter> a = one->parameters(), b = other->parameters();
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(std::equal(a[i].value.f32(), a[i].value.f32() + a[i].value.numel(), b[i].value.f32()));
  }
}

}  // namespace
}  // namespace loraine::data_start_test
