// Intervals and windows against figures worked out otherwise.
#include "loraine/eval/figures.h"

#include <gtest/gtest.h>

#include <cmath>

#include "loraine/core/batch.h"
#include "loraine/eval/perplexity.h"
#include "loraine/eval/questions.h"

namespace loraine::figures_test {
namespace {

TEST(Figures, MeanHasTheIntervalOfItsStandardError) {
  Figure figure{.name = "x"};
  for (double value : {1.0, 2.0, 4.0, 5.0}) figure.add(value);
  EXPECT_DOUBLE_EQ(value_of(figure), 3);
  // deviations −2, −1, 1, 2: variance 10 / 3, standard error sqrt(10 / 12)
  const double half = 1.959963984540054 * std::sqrt(10.0 / 12);
  EXPECT_NEAR(interval_of(figure)->low, 3 - half, 1e-12);
  EXPECT_NEAR(interval_of(figure)->high, 3 + half, 1e-12);
  EXPECT_FALSE(interval_of(Figure{.name = "one", .sums = {1}, .weights = {1}}));
}

TEST(Figures, WilsonsIntervalOfAProportion) {
  Figure figure{.name = "x", .scale = 100, .proportion = true};
  for (int i = 0; i < 10; ++i) figure.add(i < 8);
  // Wilson, 8 of 10 at 95 %: 0.4902 to 0.9433 (Agresti and Coull 1998)
  EXPECT_NEAR(interval_of(figure)->low, 49.02, 0.01);
  EXPECT_NEAR(interval_of(figure)->high, 94.33, 0.01);
  Figure none{.name = "x", .proportion = true};
  for (int i = 0; i < 10; ++i) none.add(0);
  EXPECT_DOUBLE_EQ(interval_of(none)->low, 0);
  EXPECT_GT(interval_of(none)->high, 0.2);
}

TEST(Figures, WhatBothModelsShareFallsOutOfTheDifference) {
  Figure a{.name = "x"}, b{.name = "x"};
  for (double value : {10.0, 200.0, 3000.0}) {
    a.add(value);
    b.add(value + 1);
  }
  EXPECT_NEAR(interval_of_difference(b, a)->low, 1, 1e-9);
  EXPECT_NEAR(interval_of_difference(b, a)->high, 1, 1e-9);
  b.add(1);
  EXPECT_FALSE(interval_of_difference(b, a));
}

TEST(Figures, IntervalsEndWhereTheFigureDoes) {
  Figure low{.name = "predict_bleu-4", .lowest = 0, .highest = 100}, high = low;
  for (double value : {0.0, 0.0, 0.0, 30.0}) low.add(value);
  for (double value : {100.0, 100.0, 100.0, 40.0}) high.add(value);
  EXPECT_DOUBLE_EQ(interval_of(low)->low, 0);
  EXPECT_LT(interval_of(low)->high, 30);
  EXPECT_DOUBLE_EQ(interval_of(high)->high, 100);
  Figure none{.name = "x", .scale = 100, .proportion = true}, all = none;
  for (int i = 0; i < 3; ++i) {
    none.add(i == 0);
    all.add(i != 0);
  }
  EXPECT_DOUBLE_EQ(interval_of_difference(all, none)->high, 100);
}

TEST(Figures, QuotientWithWeightsAndItsExponential) {
  Figure figure{.name = "ppl", .exponential = true};
  figure.add(2, 1);
  figure.add(2, 3);
  EXPECT_DOUBLE_EQ(value_of(figure), std::exp(1.0));
  // residuals 2 − 1 · 1 and 2 − 1 · 3 over the mean weight 2: ±0.5; sqrt(0.5 / 2) = 0.5
  EXPECT_NEAR(interval_of(figure)->high - value_of(figure), 1.959963984540054 * 0.5 * std::exp(1.0), 1e-12);
}

TEST(Windows, EachTokenButTheFirstCountsOnce) {
  for (int64_t length : {2, 5, 8, 9, 30, 31})
    for (auto [window, stride] : {std::pair<int64_t, int64_t>{8, 4}, {8, 7}, {8, 1}, {5, 2}}) {
      Text text;
      for (int64_t i = 0; i < length; ++i) text.ids.push_back(static_cast<int32_t>(i));
      std::vector<int> counted(static_cast<size_t>(length));
      int64_t begin = 0;
      for (const Example& one : sliding_windows({text}, window, stride)) {
        EXPECT_LE(static_cast<int64_t>(one.input_ids.size()), window);
        EXPECT_EQ(one.input_ids.front(), begin);
        EXPECT_EQ(one.labels.front(), kIgnoreLabel);  // it could not be predicted
        for (size_t i = 0; i < one.labels.size(); ++i)
          if (one.labels[i] != kIgnoreLabel) {
            EXPECT_EQ(one.labels[i], one.input_ids[i]);
            ++counted[static_cast<size_t>(one.labels[i])];
            if (begin > 0) { EXPECT_GE(static_cast<int64_t>(i), window - stride); }
          }
        begin += stride;
      }
      EXPECT_EQ(counted[0], 0);
      for (size_t i = 1; i < counted.size(); ++i) EXPECT_EQ(counted[i], 1) << length << " " << window << " " << stride << " " << i;
    }
}

TEST(Questions, LooseText) {
  EXPECT_EQ(loose_text("  The\n Answer:  42.  "), "the answer: 42");
  EXPECT_EQ(loose_text("..."), "");
  EXPECT_EQ(loose_text("ÄRGER!"), "ärger");
}

}  // namespace
}  // namespace loraine::figures_test
