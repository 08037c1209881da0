// Shares of labels against all strings of a small vocabulary, their gradients against differences, and how questions are put.
#include "loraine/data/decisions/label_tree.h"

#include <gtest/gtest.h>

#include <cmath>

#include "loraine/data/decisions/question.h"

namespace loraine::label_tree_test {
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

TEST(LabelTree, BeginningsHoldAllPlaces) {
  using Labels = std::vector<Ids>;
  EXPECT_EQ(label_beginnings({{1}, {2}}), Labels{{}});
  EXPECT_EQ(label_beginnings({{1, 2, 3}, {1, 2, 4}, {1, 5}, {6}}), (Labels{{1, 2}}));
  EXPECT_EQ(label_beginnings({{6}, {1, 5}, {1, 2, 3}, {7, 1}}), (Labels{{1, 2}, {7}}));
}

TEST(LabelTree, ATemperatureFlattensAndIsCalibrated) {
  LabelTree tree({{0}, {1}});
  tree.tell(0, std::vector<float>{2, 0, 0});
  const LabelShares shares = tree.shares(4);
  EXPECT_NEAR(shares.probabilities[0], 1 / (1 + std::exp(-0.5)), 1e-12);
  EXPECT_EQ(shares.confidence(), shares.probabilities[0]);
  EXPECT_LT(tree.shares().confidence(), tree.shares().probabilities[0]);  // of the whole vocabulary
}

// Σ w · log p of the labels, with logits moved.
double weighed(const std::vector<Ids>& labels, const std::vector<double>& w, size_t place, size_t id, double step) {
  LabelTree tree(labels);
  for (size_t p = 0; p < tree.places().size(); ++p) {
    std::vector<float> logits = logits_behind(tree.places()[p]);
    if (p == place) logits[id] += static_cast<float>(step);
    tree.tell(p, logits);
  }
  const std::vector<double> logprobs = tree.logprobs();
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) sum += w[i] * logprobs[i];
  return sum;
}

TEST(LabelTree, BackwardIsTheDerivative) {
  const std::vector<std::pair<std::vector<Ids>, std::vector<double>>> cases = {
      {{{0}, {3}, {4}}, {0.5, -0.75, 0.25}},
      {{{0, 1}, {0, 2}, {1, 1}, {1, 4}}, {0.5, 1, -2, 0.5}},
      {{{2}, {0, 1, 4}, {0, 1, 3}, {0, 2}}, {1, -0.5, -0.75, 0.25}}};
  for (const auto& [labels, w] : cases) {
    const LabelTree tree(labels);
    for (size_t place = 0; place < tree.places().size(); ++place) {
      std::vector<float> logits = logits_behind(tree.places()[place]);
      tree.backward(place, logits, w);
      for (size_t id = 0; id < logits.size(); ++id) {
        const double step = 1.0 / 64, slope = (weighed(labels, w, place, id, step) - weighed(labels, w, place, id, -step)) / (2 * step);
        EXPECT_NEAR(static_cast<double>(logits[id]), slope, 2e-4) << place << " " << id;
      }
    }
  }
}

DecisionWording asked(DecisionKind kind, std::vector<std::string> shown) {
  DecisionWording wording{.kind = kind, .instructions = "Which?", .shown = std::move(shown), .labels = {}};
  label_choices(wording);
  return wording;
}

TEST(Question, LabelsOfOneWidth) {
  EXPECT_EQ(asked(DecisionKind::yes_no, {"", ""}).labels, (std::vector<std::string>{"yes", "no"}));
  EXPECT_EQ(asked(DecisionKind::choice, {"x", "y", "z"}).labels, (std::vector<std::string>{"A", "B", "C"}));
  EXPECT_EQ(asked(DecisionKind::choice, std::vector<std::string>(27, "x")).labels.back(), "27");
  EXPECT_EQ(asked(DecisionKind::choice, std::vector<std::string>(100, "x")).labels.front(), "001");
  EXPECT_EQ(asked(DecisionKind::score, {"calm", "cross"}).labels, (std::vector<std::string>{"0", "1"}));
  EXPECT_EQ(asked(DecisionKind::score, {"1", "2", "3"}).labels, (std::vector<std::string>{"1", "2", "3"}));
  EXPECT_EQ(asked(DecisionKind::score, {"9", "10"}).labels, (std::vector<std::string>{"0", "1"}));
  EXPECT_EQ(asked(DecisionKind::score, std::vector<std::string>(11, "x")).labels.back(), "10");
}

TEST(Question, Texts) {
  EXPECT_EQ(decision_text(asked(DecisionKind::yes_no, {"", ""})), "Which?\nIs this so?\nAnswer with one label only: yes, no.");
  EXPECT_EQ(decision_text(asked(DecisionKind::choice, {"x", "y"})), "Which?\nA: x\nB: y\nAnswer with one label only: A, B.");
  EXPECT_EQ(decision_text(asked(DecisionKind::score, {"1", "2"})), "Which?\nAnswer with one label only: 1, 2.");
  EXPECT_EQ(decision_text(asked(DecisionKind::score, {"-1", "1"})), "Which?\n0: -1\n1: 1\nAnswer with one label only: 0, 1.");
}

}  // namespace
}  // namespace loraine::label_tree_test
