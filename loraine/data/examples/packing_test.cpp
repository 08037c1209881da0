#include "loraine/data/examples/packing.h"

#include <gtest/gtest.h>

#include "loraine/core/batch.h"
#include "loraine/core/error.h"

namespace loraine::packing_test {
namespace {

using Blocks = std::vector<std::vector<int64_t>>;

TEST(Packing, TakesTheLongestThatFits) {
  const std::vector<int64_t> lengths = {3, 5, 2, 5, 4};
  EXPECT_EQ(fill_blocks(lengths, 9), (Blocks{{3, 4}, {1, 0}, {2}}));  // of equal lengths the last comes first
  EXPECT_EQ(fill_blocks(lengths, 5), (Blocks{{3}, {1}, {4}, {0, 2}}));
  EXPECT_EQ(fill_blocks(lengths, 100), (Blocks{{3, 1, 4, 0, 2}}));
  EXPECT_TRUE(fill_blocks({}, 5).empty());
  EXPECT_THROW(fill_blocks(lengths, 4), Error);
}

TEST(Packing, FillsABlockUp) {
  const Example a{{5, 6, 7}, {kIgnoreLabel, 6, 7}}, b{{8, 9}, {8, 9}};
  const Example* both[] = {&b, &a};
  const Example block = pack_block(both, 8, 1, true);
  EXPECT_EQ(block.input_ids, (std::vector<int32_t>{8, 9, 5, 6, 7, 1, 1, 1}));
  EXPECT_EQ(block.labels, (std::vector<int32_t>{8, 9, kIgnoreLabel, 6, 7, kIgnoreLabel, kIgnoreLabel, kIgnoreLabel}));
  EXPECT_EQ(block.starts, (std::vector<int32_t>{0, 2}));
  EXPECT_EQ(block.padding, 3);
  EXPECT_TRUE(block.sees_all);
  EXPECT_EQ(pack_block(both, 5, 1, false).padding, 0);
  EXPECT_THROW(pack_block(both, 4, 1, false), Error);
}

TEST(Packing, BatchesBeginAnewInEveryShare) {
  EXPECT_EQ(batch_starts(7, 3, 1), (std::vector<int64_t>{0, 3, 6, 7}));
  EXPECT_EQ(batch_starts(7, 3, 2), (std::vector<int64_t>{0, 3, 4, 7}));  // 4 rows and 3
  EXPECT_EQ(batch_starts(2, 3, 5), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(batch_starts(0, 3, 2), (std::vector<int64_t>{0}));
}

}  // namespace
}  // namespace loraine::packing_test
