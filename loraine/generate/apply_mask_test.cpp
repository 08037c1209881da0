// A mask takes tokens away and leaves the order of the others: greedy under it is greedy over what is left.
#include "loraine/generate/apply_mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "loraine/core/error.h"
#include "loraine/generate/engine.h"
#include "tests/support/formula_model.h"

namespace loraine::apply_mask_test {
namespace {

struct Allowed final : TokenMask {
  explicit Allowed(std::vector<bool> ids_) : ids(std::move(ids_)) {}
  void fill(std::span<uint64_t> bits) override {
    if (fails) throw Error(ErrorKind::usage, "it is ambiguous");
    std::fill(bits.begin(), bits.end(), 0);
    for (size_t id = 0; id < ids.size(); ++id)
      if (ids[id]) bits[id / 64] |= 1ull << (id % 64);
  }
  int64_t tokens() const override { return static_cast<int64_t>(ids.size()); }
  bool accept(int32_t id) override {
    accepted.push_back(id);
    return ids.at(static_cast<size_t>(id));
  }
  std::vector<bool> ids;
  std::vector<int32_t> accepted;
  bool fails = false;
};

TEST(ApplyMask, TakesAwayWhatIsNotAllowed) {
  std::vector<bool> ids(130, false);
  for (size_t id : {0u, 63u, 64u, 129u}) ids[id] = true;
  Allowed mask(ids);
  std::vector<float> logits(140);
  for (size_t id = 0; id < logits.size(); ++id) logits[id] = static_cast<float>(id) - 50;
  EXPECT_FALSE(apply_mask(mask, logits));
  for (size_t id = 0; id < logits.size(); ++id) {
    if (id < 130 && ids[id]) EXPECT_EQ(logits[id], static_cast<float>(id) - 50);
    else EXPECT_TRUE(std::isinf(logits[id]) && logits[id] < 0) << id;
  }
  std::vector<float> fewer(100, 1);  // a model of fewer tokens than the mask has
  EXPECT_FALSE(apply_mask(mask, fewer));
  EXPECT_EQ(std::count(fewer.begin(), fewer.end(), 1.f), 3);
  EXPECT_NO_THROW(accept_token(mask, 63));
  EXPECT_THROW(accept_token(mask, 62), Error);
}

TEST(ApplyMask, GreedyUnderAMaskIsGreedyOverWhatIsLeft) {
  const Model model = make_model(false, false);
  Context ctx;
  GenerateOptions options;
  options.max_new_tokens = 1;
  const auto first_token = [&](const std::vector<bool>& ids) {
    Engine engine(model, 100, 1);
    const auto mask = std::make_shared<Allowed>(ids);
    const int64_t number = engine.submit({.prompt = {3, 1, 4, 1, 5}, .options = options, .mask = mask});
    while (engine.step(ctx)) {}
    const auto answer = engine.take(number);
    EXPECT_EQ(answer, mask->accepted);
    return answer.at(0);
  };
  std::vector<int32_t> order;  // tokens by their logits, found by taking the best away again and again
  std::vector<bool> left(static_cast<size_t>(kVocab), true);
  while (order.size() < static_cast<size_t>(kVocab)) {
    order.push_back(first_token(left));
    left[static_cast<size_t>(order.back())] = false;
  }
  Engine plain(model, 100, 1);
  EXPECT_EQ(plain.generate(ctx, std::vector<int32_t>{3, 1, 4, 1, 5}, nullptr, options).at(0), order[0]);
  std::mt19937 random(1);
  for (int i = 0; i < 20; ++i) {
    std::vector<bool> some(static_cast<size_t>(kVocab));
    for (size_t id = 0; id < some.size(); ++id) some[id] = random() % 5 == 0;
    some[random() % some.size()] = true;
    EXPECT_EQ(first_token(some), *std::find_if(order.begin(), order.end(), [&](int32_t id) { return some[static_cast<size_t>(id)]; }));
  }
}

TEST(ApplyMask, AFailureEndsItsRequestAlone) {
  const Model model = make_model(false, false);
  Context ctx;
  GenerateOptions options;
  options.max_new_tokens = 4;
  Engine engine(model, 200, 1, 2);
  const auto failing = std::make_shared<Allowed>(std::vector<bool>(static_cast<size_t>(kVocab), true));
  failing->fails = true;
  const int64_t bad = engine.submit({.prompt = {1, 2}, .options = options, .mask = failing}),
                good = engine.submit({{1, 2}, nullptr, options, {}});
  int failures = 0;
  for (bool more = true; more;) {
    try {
      more = engine.step(ctx);
    } catch (const Error&) { ++failures; }
  }
  EXPECT_EQ(failures, 1);
  EXPECT_TRUE(engine.done(bad));
  EXPECT_TRUE(engine.take(bad).empty());
  EXPECT_EQ(engine.take(good).size(), 4u);
  options.num_beams = 2;
  EXPECT_THROW(engine.submit({.prompt = {1, 2}, .options = options, .mask = failing}), Error);
}

}  // namespace
}  // namespace loraine::apply_mask_test
