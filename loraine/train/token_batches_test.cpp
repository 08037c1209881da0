#include "loraine/train/token_batches.h"

#include <gtest/gtest.h>

#include "loraine/data/order/orders.h"

namespace loraine::token_batches_test {
namespace {

std::vector<size_t> sizes(std::span<const int64_t> lengths, int64_t budget, bool padded) {
  std::vector<size_t> made;
  while (const size_t n = token_batch_size(lengths, budget, padded)) {
    made.push_back(n);
    lengths = lengths.subspan(n);
  }
  return made;
}

// Recorded of LLaMA-Factory 0.9.5: v1/plugins/trainer_plugins/batching.py, cutoff_len 40 and micro_batch_size 2; 80 and 1.
TEST(TokenBatches, SizesOfMicroBatches) {
  const std::vector<int64_t> random = {18, 40, 37, 11, 26, 33, 40, 7,  3,  33, 19, 38, 17, 15, 33,
                                       37, 38, 33, 28, 12, 17, 12, 36, 27, 3,  7,  13, 40, 5,  22};
  EXPECT_EQ(sizes(random, 80, true), (std::vector<size_t>{2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2}));
  EXPECT_EQ(sizes(random, 80, false), (std::vector<size_t>{2, 3, 3, 3, 3, 2, 2, 4, 4}));
  const std::vector<int64_t> full = {40, 40, 20, 20, 20, 20, 80, 1, 79, 1};
  EXPECT_EQ(sizes(full, 80, true), (std::vector<size_t>{2, 4, 1, 1, 1}));
  EXPECT_EQ(sizes(full, 80, false), (std::vector<size_t>{2, 4, 1, 2}));
}

Dataset set_of(std::span<const int64_t> lengths) {
  Dataset set;
  for (const int64_t length : lengths) {
    Example example;
    example.input_ids = std::vector<int32_t>(static_cast<size_t>(length));
    set.examples.push_back(std::move(example));
  }
  return set;
}

// All examples of an epoch in its order, then those of the next; the budget is kept; an update ends an epoch when it has the last of it.
TEST(TokenBatches, GoesOnIntoTheNextEpoch) {
  const std::vector<int64_t> lengths = {3, 9, 4, 4, 7, 2, 8};
  const Dataset set = set_of(lengths);
  TrainConfig c;
  c.cutoff_len = 10;
  c.per_device_train_batch_size = 1;
  c.gradient_accumulation_steps = 2;
  c.batching_strategy = "dynamic_padding_free";
  TokenBatches batches(c, set);
  std::vector<int64_t> all;
  for (int64_t i = 0; i < 6; ++i) {
    const TokenBatches::Update update = batches.next();
    ASSERT_EQ(update.sizes.size(), 2U);
    size_t at = 0;
    for (const size_t size : update.sizes) {
      int64_t tokens = 0;
      for (size_t k = 0; k < size; ++k) tokens += lengths[static_cast<size_t>(update.items[at++])];
      EXPECT_LE(tokens, 10);
    }
    EXPECT_EQ(at, update.items.size());
    const size_t before = all.size();
    all.insert(all.end(), update.items.begin(), update.items.end());
    EXPECT_EQ(update.ends_epoch, before / 7 != all.size() / 7);
    EXPECT_EQ(static_cast<size_t>(update.epoch * 7 + update.place), all.size());
  }
  std::vector<int64_t> expected;
  for (uint64_t epoch = 0; expected.size() < all.size(); ++epoch)
    for (const int64_t place : torch_randperm(7, 42 + epoch)) expected.push_back(place);
  expected.resize(all.size());
  EXPECT_EQ(all, expected);
}

TEST(TokenBatches, CountsTheUpdatesOfPasses) {
  const Dataset set = set_of(std::vector<int64_t>(8, 5));
  TrainConfig c;
  c.cutoff_len = 10;
  c.per_device_train_batch_size = 1;
  c.batching_strategy = "dynamic_batching";
  EXPECT_EQ(TokenBatches::count(c, set, 1), 4);
  EXPECT_EQ(TokenBatches::count(c, set, 2.5), 10);
  c.gradient_accumulation_steps = 3;  // 6 examples an update
  EXPECT_EQ(TokenBatches::count(c, set, 1), 2);
  EXPECT_EQ(TokenBatches::count(c, set, 3), 4);
}

}  // namespace
}  // namespace loraine::token_batches_test
