// Shares of labels against all strings of a small vocabulary; pooled states.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "loraine/serve/decisions.h"
#include "loraine/serve/embeddings.h"

namespace loraine::figures_test {
namespace {

using Ids = std::vector<int32_t>;

// Logits of a made-up model behind some ids.
std::vector<float> logits_behind(const Ids& ids) {
  std::vector<float> logits(5);
  for (size_t v = 0; v < logits.size(); ++v) {
    double x = static_cast<double>(v) + 1;
    for (const int32_t id : ids) x = x * 3.7 + static_cast<double>(id);
    logits[v] = static_cast<float>(3 * std::sin(x));
  }
  return logits;
}

double probability(const Ids& label) {
  double p = 1;
  Ids before;
  for (const int32_t id : label) {
    const std::vector<float> logits = logits_behind(before);
    double sum = 0;
    for (const float x : logits) sum += std::exp(static_cast<double>(x));
    p *= std::exp(static_cast<double>(logits[static_cast<size_t>(id)])) / sum;
    before.push_back(id);
  }
  return p;
}

TEST(LabelTree, SharesAreThoseOfWholeLabels) {
  const std::vector<std::pair<std::vector<Ids>, size_t>> cases = {
      {{{0}, {3}}, 1}, {{{0, 1}, {0, 2}, {1, 1}, {1, 4}}, 3}, {{{2}, {0, 1, 4}, {0, 1, 3}, {0, 2}}, 3}, {{{4, 4, 4}}, 3}};
  for (const auto& [labels, places] : cases) {
    LabelTree tree(labels);
    EXPECT_EQ(tree.places().size(), places);
    EXPECT_TRUE(tree.places()[0].empty());
    for (size_t place = 0; place < tree.places().size(); ++place) tree.tell(place, logits_behind(tree.places()[place]));
    const LabelShares shares = tree.shares();
    double mass = 0;
    for (const Ids& label : labels) mass += probability(label);
    EXPECT_NEAR(shares.mass, mass, 1e-12);
    for (size_t i = 0; i < labels.size(); ++i) {
      EXPECT_NEAR(shares.probabilities[i], probability(labels[i]) / mass, 1e-12);
      EXPECT_LE(shares.probabilities[i], shares.probabilities[shares.likeliest]);
    }
    EXPECT_NEAR(shares.confidence(), probability(labels[shares.likeliest]), 1e-12);
  }
}

TEST(LabelTree, FarFromLikelyLabelsKeepTheirShares) {
  LabelTree tree({{0}, {1}});
  tree.tell(0, std::vector<float>{-2000, -2001, 0});
  EXPECT_NEAR(tree.shares().probabilities[0], 1 / (1 + std::exp(-1)), 1e-12);
  EXPECT_EQ(tree.shares().mass, 0);
}

TEST(PooledState, MeanOrLastAndOfLengthOne) {
  const std::vector<std::vector<float>> rows = {{3, 0, 1}, {1, 4, 1}};
  PooledState mean(Pooling::mean), last(Pooling::last), none(Pooling::mean);
  for (const auto& row : rows) mean.add(row), last.add(row);
  EXPECT_EQ(mean.embedding({}), (std::vector<float>{2.f / 3, 2.f / 3, 1.f / 3}));
  EXPECT_FLOAT_EQ(last.embedding({})[1], static_cast<float>(4 / std::sqrt(18.0)));
  EXPECT_EQ(last.embedding(1), std::vector<float>{1});
  none.add(std::vector<float>{0, 0});
  EXPECT_EQ(none.embedding({}), (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace loraine::figures_test
