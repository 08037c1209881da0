#include "loraine/serve/thought_budget.h"

#include <gtest/gtest.h>

namespace loraine::thought_budget_test {
namespace {

// Ids are bytes; 256 is <think>, 257 </think>.
std::shared_ptr<ThoughtLimit> limit(int64_t tokens, bool in_thought = false, bool special = true) {
  std::vector<TokenBytes> all;
  for (int i = 0; i < 256; ++i) all.push_back({std::string(1, static_cast<char>(i))});
  all.push_back({"<think>", true});
  all.push_back({"</think>", true});
  auto made = std::make_shared<ThoughtLimit>();
  made->vocabulary = std::make_shared<grammar::Vocabulary>(all, std::vector<int32_t>{0});
  made->marks = {"<think>", "</think>"};
  made->close = {257};
  if (!special) {
    made->close.clear();
    for (const char c : made->marks.close) made->close.push_back(static_cast<uint8_t>(c));
  }
  made->tokens = tokens;
  made->vocab = 258;
  made->in_thought = in_thought;
  return made;
}

std::vector<int32_t> allowed(TokenMask& mask) {
  std::vector<uint64_t> bits(static_cast<size_t>(mask.tokens() + 63) / 64);
  mask.fill(bits);
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < mask.tokens(); ++id)
    if (bits[static_cast<size_t>(id) / 64] >> (id % 64) & 1) ids.push_back(id);
  return ids;
}

// Takes the text byte by byte; how many ids of it came before the mask forced another.
size_t taken(TokenMask& mask, std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (allowed(mask).size() == 1) return i;
    EXPECT_TRUE(mask.accept(static_cast<uint8_t>(text[i])));
  }
  return text.size();
}

TEST(ThoughtBudget, ClosesAThoughtThatIsTooLong) {
  ThoughtBudget mask(limit(5), nullptr);
  EXPECT_EQ(taken(mask, "\n"), 1u);
  EXPECT_TRUE(mask.accept(256));
  EXPECT_EQ(taken(mask, "long thoughts"), 5u);
  EXPECT_EQ(allowed(mask), std::vector<int32_t>{257});
  EXPECT_FALSE(mask.accept('x'));
  EXPECT_TRUE(mask.accept(257));
  EXPECT_EQ(taken(mask, "an answer of any length"), 23u);
}

TEST(ThoughtBudget, OneThatEndsInTimeIsLeftAlone) {
  ThoughtBudget mask(limit(5, true), nullptr);
  EXPECT_EQ(taken(mask, "well"), 4u);
  EXPECT_TRUE(mask.accept(257));
  EXPECT_EQ(taken(mask, "an answer of any length"), 23u);
}

TEST(ThoughtBudget, MarksThatAreText) {
  ThoughtBudget mask(limit(3, false, false), nullptr);
  EXPECT_EQ(taken(mask, "<think>abcdef"), 10u);
  EXPECT_EQ(taken(mask, "x"), 0u);
  for (const char c : std::string_view("</think>")) {
    EXPECT_EQ(allowed(mask), std::vector<int32_t>{c});
    EXPECT_TRUE(mask.accept(c));
  }
  EXPECT_EQ(taken(mask, "free"), 4u);
}

TEST(ThoughtBudget, AnAnswerWithoutThoughtsHasNoBudget) {
  ThoughtBudget mask(limit(2), nullptr);
  EXPECT_EQ(taken(mask, "<thing> and so on"), 17u);
}

// What else holds the answer is told of every token, and asked where nothing is forced.
TEST(ThoughtBudget, BesideAnotherMask) {
  struct Letters : TokenMask {
    void fill(std::span<uint64_t> bits) override {
      std::fill(bits.begin(), bits.end(), 0);
      bits[1] = ~0ull;
    }
    int64_t tokens() const override { return 258; }
    bool accept(int32_t id) override {
      seen.push_back(id);
      return true;
    }
    std::vector<int32_t> seen;
  };
  const auto inner = std::make_shared<Letters>();
  ThoughtBudget mask(limit(1, true), inner);
  EXPECT_EQ(allowed(mask).size(), 64u);
  EXPECT_TRUE(mask.accept('a'));
  EXPECT_EQ(allowed(mask), std::vector<int32_t>{257});
  EXPECT_TRUE(mask.accept(257));
  EXPECT_EQ(allowed(mask).size(), 64u);
  EXPECT_EQ(inner->seen, (std::vector<int32_t>{'a', 257}));
}

}  // namespace
}  // namespace loraine::thought_budget_test
