#include "loraine/train/sampling.h"

#include <gtest/gtest.h>

#include <numeric>

#include "loraine/data/order/orders.h"

namespace loraine::sampling_test {
namespace {

using Places = std::vector<int64_t>;

// transformers 5.6: get_length_grouped_indices over torch.randperm(12) with a generator seeded with 42, batches of 1 and 2.
TEST(Sampling, GroupsByLength) {
  const Places lengths = {5, 9, 1, 7, 3, 12, 4, 8, 2, 6, 11, 10};
  EXPECT_EQ(group_by_length(torch_randperm(12, 42), lengths, 1), (Places{5, 6, 8, 7, 0, 2, 10, 11, 4, 1, 3, 9}));
  EXPECT_EQ(group_by_length(torch_randperm(12, 42), lengths, 2), (Places{5, 8, 1, 7, 0, 2, 10, 11, 3, 4, 6, 9}));
  EXPECT_EQ(group_by_length({}, {}, 2), Places{});
}

TEST(Sampling, OrderOfAnEpoch) {
  Dataset set;
  set.examples.resize(10);
  for (size_t i = 0; i < set.size(); ++i) set.examples[i].input_ids = std::vector<int32_t>(i + 1);
  TrainConfig c;
  EXPECT_EQ(epoch_order(c, set, 1), torch_randperm(10, 43));
  c.data_seed = 7;
  EXPECT_EQ(epoch_order(c, set, 1), torch_randperm(10, 8));
  c.group_by_length = true;
  c.per_device_train_batch_size = 10;
  Places falling(10);
  std::iota(falling.rbegin(), falling.rend(), 0);
  EXPECT_EQ(epoch_order(c, set, 0), falling);
  c.group_by_length = false;
  c.train_sampling_strategy = "sequential";
  EXPECT_EQ(epoch_order(c, set, 0), Places{});
}

TEST(Sampling, CountsBatches) {
  EXPECT_EQ(batch_count(7, 2, false), 4);
  EXPECT_EQ(batch_count(7, 2, true), 3);
  EXPECT_EQ(batch_count(1, 2, true), 0);
  EXPECT_EQ(batch_sizes(7, 2), (std::vector<size_t>{2, 2, 2, 1}));
  EXPECT_EQ(batch_sizes(4, 2), (std::vector<size_t>{2, 2}));
}

}  // namespace
}  // namespace loraine::sampling_test
