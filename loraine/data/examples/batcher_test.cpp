#include "loraine/data/examples/batcher.h"

#include <gtest/gtest.h>

namespace loraine::batcher_test {
namespace {

TEST(Batcher, LaysExamplesEndToEnd) {
  const Example a{{5, 6, 7}, {kIgnoreLabel, 6, 7}}, b{{8, 9}, {8, 9}}, empty{};
  const Example* all[] = {&a, &empty, &b};
  const Batch batch = make_batch(all);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{5, 6, 7, 8, 9}));
  EXPECT_EQ(batch.positions, (std::vector<int32_t>{0, 1, 2, 0, 1}));
  EXPECT_EQ(batch.labels, (std::vector<int32_t>{6, 7, kIgnoreLabel, 9, kIgnoreLabel}));
  ASSERT_EQ(batch.sequences.size(), 2u);
  EXPECT_EQ(batch.sequences[1].start, 3);
  EXPECT_EQ(batch.sequences[1].length, 2);
  EXPECT_EQ(batch.sequences[1].kv_start, 3);
  EXPECT_EQ(batch.sequences[1].kv_length, 2);
  EXPECT_EQ(count_labels(a), 2);
  EXPECT_EQ(count_labels(b), 2);  // a labelled first token counts, though nothing predicts it
}

// Two samples of 3 and 2 tokens in a block of 7, of which two are padding; a label of the second sample's first token stays.
const Example kPacked{{5, 6, 7, 8, 9, 0, 0}, {kIgnoreLabel, 6, 7, 8, 9, kIgnoreLabel, kIgnoreLabel}, {0, 3}, 2};

TEST(Batcher, KeepsPackedSamplesApart) {
  const Example alone{{4, 3}, {4, 3}};
  const Example* all[] = {&kPacked, &alone};
  const Batch batch = make_batch(all);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{5, 6, 7, 8, 9, 4, 3}));
  EXPECT_EQ(batch.positions, (std::vector<int32_t>{0, 1, 2, 0, 1, 0, 1}));
  EXPECT_EQ(batch.labels, (std::vector<int32_t>{6, 7, 8, 9, kIgnoreLabel, 3, kIgnoreLabel}));
  ASSERT_EQ(batch.sequences.size(), 3u);
  EXPECT_EQ(batch.sequences[1].start, 3);
  EXPECT_EQ(batch.sequences[1].kv_start, 3);
  EXPECT_EQ(batch.sequences[1].kv_length, 2);
  EXPECT_EQ(batch.sequences[2].start, 5);
  EXPECT_EQ(example_rows(kPacked), 5);
}

TEST(Batcher, LetsPackedSamplesSeeEachOther) {
  Example example = kPacked;
  example.sees_all = true;
  const Example* all[] = {&example};
  const Batch batch = make_batch(all);
  EXPECT_EQ(batch.positions, (std::vector<int32_t>{0, 1, 2, 0, 1}));
  ASSERT_EQ(batch.sequences.size(), 1u);
  EXPECT_EQ(batch.sequences[0].length, 5);
}

}  // namespace
}  // namespace loraine::batcher_test
