// Each rule on logits against its definition, their order, and that draws follow the probabilities.
#include "loraine/generate/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace loraine::sampling_test {
namespace {

using Logits = std::vector<float>;
using Ids = std::vector<int32_t>;

int32_t greedy(Logits logits, const GenerateOptions& o, const Ids& seen = {}, size_t prompt_length = 0) {
  std::mt19937_64 random(1);
  return sample(logits, seen, prompt_length, o, random);
}

GenerateOptions drawn() {
  GenerateOptions o;
  o.do_sample = true;
  o.temperature = 1;
  o.top_p = 1;
  o.top_k = 0;
  return o;
}

std::map<int32_t, double> shares(const Logits& logits, const GenerateOptions& o, const Ids& seen = {}, size_t prompt_length = 0) {
  std::map<int32_t, double> out;
  std::mt19937_64 random(7);
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    Logits copy = logits;
    out[sample(copy, seen, prompt_length, o, random)] += 1.0 / kDraws;
  }
  return out;
}

TEST(Sampling, MasksComeBeforeBias) {
  const Logits logits = {1, 2, 3, 4};
  GenerateOptions o;
  EXPECT_EQ(greedy(logits, o), 3);
  o.allowed_ids = {0, 2};
  EXPECT_EQ(greedy(logits, o), 2);
  o.logit_bias = {{0, 50.f}, {3, 100.f}};  // 3 is not allowed, whatever its bias
  EXPECT_EQ(greedy(logits, o), 0);
  o = {};
  o.logit_bias = {{3, -100.f}};
  EXPECT_EQ(greedy(logits, o), 2);
}

TEST(Sampling, BadWordsAreNeverFinished) {
  const Logits logits = {1, 2, 3, 4};
  GenerateOptions o;
  o.bad_words = {{3}};
  EXPECT_EQ(greedy(logits, o), 2);
  o.bad_words = {{1, 2, 3}};
  EXPECT_EQ(greedy(logits, o, {1, 2}), 2);
  EXPECT_EQ(greedy(logits, o, {2, 2}), 3);
  EXPECT_EQ(greedy(logits, o, {2}), 3);
  EXPECT_EQ(greedy(logits, o, {1, 2}, 1), 3);  // its beginning stands in the prompt
}

TEST(Sampling, NothingEndsBeforeMinTokens) {
  const Logits logits = {1, 2, 3, 4};
  GenerateOptions o;
  o.stop_ids = {3, 2};
  o.min_tokens = 2;
  EXPECT_EQ(greedy(logits, o, {0, 0, 0}, 2), 1);
  EXPECT_EQ(greedy(logits, o, {0, 0, 0}, 1), 3);
}

TEST(Sampling, PenaltiesOfTheAnswerLeaveThePromptAlone) {
  const Logits logits = {1, 2, 3, 4};
  GenerateOptions o;
  o.presence_penalty = 1.5;
  EXPECT_EQ(greedy(logits, o, {3, 3}, 2), 3);
  EXPECT_EQ(greedy(logits, o, {3, 3}, 1), 2);
  o = {};
  o.frequency_penalty = 0.6;
  EXPECT_EQ(greedy(logits, o, {0, 3}, 1), 3);
  EXPECT_EQ(greedy(logits, o, {0, 3, 3}, 1), 2);  // twice 0.6
  o = {};
  o.repetition_penalty = 2;
  EXPECT_EQ(greedy(logits, o, {3}, 1), 2);  // this one counts the prompt
  o.logit_bias = {{3, 4.f}};                // (4 + 4) / 2, not 4 / 2 + 4: the bias comes first
  EXPECT_EQ(greedy({1, 2, 5, 4}, o, {3}, 1), 2);
}

TEST(Sampling, DrawsFollowTheProbabilities) {
  const Logits logits = {std::log(0.1f), std::log(0.2f), std::log(0.3f), std::log(0.4f)};
  auto all = shares(logits, drawn());
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(all[i], 0.1 * (i + 1), 0.015);
  GenerateOptions o = drawn();
  o.min_p = 0.6;  // of 0.4: 0.24
  auto some = shares(logits, o);
  EXPECT_EQ(some.size(), 2u);
  EXPECT_NEAR(some[3], 4.0 / 7, 0.015);
  o = drawn();
  o.top_k = 3;
  o.top_p = 0.5;  // of 0.9: the first holds 0.44, the first two 0.78
  some = shares(logits, o);
  EXPECT_EQ(some.size(), 2u);
  EXPECT_NEAR(some[3], 4.0 / 7, 0.015);
  o = drawn();
  o.min_p = 0.3;  // leaves 0.2, 0.3, 0.4; then top_p counts of these
  o.top_p = 0.77;
  EXPECT_EQ(shares(logits, o).size(), 2u);
  o = drawn();
  o.temperature = 0.5;
  EXPECT_NEAR(shares(logits, o)[3], 0.16 / 0.30, 0.015);
  o = drawn();
  o.allowed_ids = {0, 1};
  some = shares(logits, o);
  EXPECT_EQ(some.size(), 2u);
  EXPECT_NEAR(some[1], 2.0 / 3, 0.015);
}

TEST(Sampling, LogprobsSumToOneAndAreSorted) {
  Logits logits;
  for (int i = 0; i < 300; ++i) logits.push_back(std::sin(static_cast<float>(i) * 1.7f) * 4);
  const TokenLogprobs all = token_logprobs(logits, 12, 300);
  double sum = 0;
  for (size_t i = 0; i < all.top.size(); ++i) {
    sum += std::exp(all.top[i].second);
    if (i > 0) { EXPECT_LE(all.top[i].second, all.top[i - 1].second); }
  }
  EXPECT_NEAR(sum, 1, 1e-5);
  EXPECT_EQ(all.top[static_cast<size_t>(all.rank - 1)].first, 12);
  EXPECT_EQ(all.top[static_cast<size_t>(all.rank - 1)].second, all.logprob);
  EXPECT_TRUE(token_logprobs(logits, 12, 0).top.empty());
}

TEST(Sampling, SeedsOfAnswersDiffer) {
  EXPECT_EQ(seed_of_answer(5, 0), 5u);
  EXPECT_NE(seed_of_answer(5, 1), seed_of_answer(6, 1));
  EXPECT_NE(seed_of_answer(5, 1), seed_of_answer(5, 2));
}

}  // namespace
}  // namespace loraine::sampling_test
