// Samples of a batch that share the rows they begin with: which rows these are, and what is left of the batch.
#include <gtest/gtest.h>

#include <algorithm>

#include "loraine/data/examples/batcher.h"

namespace loraine::shared_samples_test {
namespace {

// `prompt` counted up from `first`, then the answer, which alone is trained.
Example answered(int32_t first, int32_t prompt, std::vector<int32_t> answer) {
  std::vector<int32_t> ids, labels(static_cast<size_t>(prompt), kIgnoreLabel);
  for (int32_t i = 0; i < prompt; ++i) ids.push_back(first + i);
  ids.insert(ids.end(), answer.begin(), answer.end());
  labels.insert(labels.end(), answer.begin(), answer.end());
  return {ids, labels};
}

// What a row is: token, position, label, and the tokens of the keys that it sees.
std::vector<std::vector<int32_t>> rows_of_sequence(const Batch& batch, size_t which) {
  const Sequence& s = batch.sequences[which];
  std::vector<std::vector<int32_t>> rows;
  if (s.parent >= 0) {
    rows = rows_of_sequence(batch, static_cast<size_t>(s.parent));
    rows.resize(static_cast<size_t>(s.shared()));
  }
  for (int64_t t = s.start; t < s.start + s.length; ++t) {
    const auto i = static_cast<size_t>(t);
    rows.push_back({batch.tokens[i], batch.positions[i], batch.labels[i]});
  }
  return rows;
}

TEST(SharedSamples, SharesWhatSamplesBeginWith) {
  const Example chosen = answered(100, 20, {1, 2, 3}), rejected = answered(100, 20, {1, 5}), other = answered(300, 18, {7}),
                longer = answered(100, 30, {8, 9}), again = answered(300, 18, {});
  const Example* all[] = {&chosen, &rejected, &other, &longer, &again};
  const Batch shared = make_batch(all, INT64_MAX), apart = make_batch(all);
  // The last row of the prompt predicts the answer's first token, which the two have not in common in general.
  EXPECT_EQ(shared.sequences[1].parent, 0);
  EXPECT_EQ(shared.sequences[1].shared(), 19);
  EXPECT_EQ(shared.sequences[1].length, 3);
  EXPECT_EQ(shared.sequences[2].parent, -1);
  EXPECT_EQ(shared.sequences[3].parent, 0);
  EXPECT_EQ(shared.sequences[3].shared(), 20);
  EXPECT_EQ(shared.sequences[4].shared(), 17);  // one row is always its own
  EXPECT_EQ(shared.rows(), apart.rows() - 19 - 20 - 17);
  EXPECT_EQ(batch_rows(all, INT64_MAX), shared.rows());
  EXPECT_EQ(batch_rows(all, 0), apart.rows());
  EXPECT_EQ(batch_rows(all, INT64_MAX, 19), 19 + 1 + 19 + 1 + 1);
  int64_t labels = 0;
  for (const Batch* batch : {&shared, &apart}) labels += std::ranges::count_if(batch->labels, [](int32_t l) { return l != kIgnoreLabel; });
  EXPECT_EQ(labels, 2 * (3 + 2 + 1 + 2));
  for (size_t which = 0; which < 5; ++which) {
    const auto got = rows_of_sequence(shared, which), want = rows_of_sequence(apart, which);
    ASSERT_EQ(got.size(), want.size());
    for (size_t t = 0; t < got.size(); ++t) {
      EXPECT_EQ(got[t][0], want[t][0]);
      EXPECT_EQ(got[t][1], want[t][1]);
      const bool own = t >= static_cast<size_t>(shared.sequences[which].shared());  // else it may have a label of the other sample
      EXPECT_EQ(own ? got[t][2] : kIgnoreLabel, want[t][2]);
    }
  }
}

TEST(SharedSamples, SharesNoLabelledRowsNorLongOnes) {
  Example trained = answered(100, 20, {1, 2, 3});
  const Example first = answered(100, 20, {4, 5});
  std::vector<int32_t> labels(trained.input_ids.begin(), trained.input_ids.end());
  trained.labels = labels;
  const Example* both[] = {&first, &trained};
  EXPECT_EQ(make_batch(both, INT64_MAX).sequences[1].parent, -1);
  const Example* other[] = {&trained, &first};  // whose label is in a row of the other
  EXPECT_EQ(make_batch(other, INT64_MAX).sequences[1].shared(), 19);
  EXPECT_EQ(make_batch(other, 23).sequences[1].shared(), 19);
  EXPECT_EQ(make_batch(other, 22).sequences[1].parent, -1);  // the first has 23 tokens
  const Example few = answered(100, 16, {1}), few_too = answered(100, 16, {2});
  const Example* little[] = {&few, &few_too};
  EXPECT_EQ(make_batch(little, INT64_MAX).sequences[1].parent, -1);  // 15 rows in common
}

TEST(SharedSamples, SharesWithinPackedExamples) {
  const Example a = answered(100, 20, {1, 2, 3}), b = answered(100, 18, {8, 9});
  std::vector<int32_t> ids(a.input_ids.begin(), a.input_ids.end()), labels(a.labels.begin(), a.labels.end());
  ids.insert(ids.end(), b.input_ids.begin(), b.input_ids.end());
  labels.insert(labels.end(), b.labels.begin(), b.labels.end());
  Example packed{ids, labels, {0, 23}};
  const Example* all[] = {&packed};
  Batch batch = make_batch(all, INT64_MAX);
  ASSERT_EQ(batch.sequences.size(), 2u);
  EXPECT_EQ(batch.sequences[1].shared(), 17);
  EXPECT_EQ(batch.rows(), 23 + 3);
  EXPECT_EQ(batch.positions[23], 17);
  packed.sees_all = true;
  batch = make_batch(all, INT64_MAX);
  EXPECT_EQ(batch.rows(), 43);
}

TEST(SharedSamples, FirstRowsAreABatch) {
  const Example a = answered(100, 20, {1, 2, 3}), b = answered(100, 20, {8, 9});
  const Example *all[] = {&a, &b}, *one[] = {&a};
  const Batch first = first_rows(make_batch(all, INT64_MAX), 23), want = make_batch(one);
  EXPECT_EQ(first.tokens, want.tokens);
  EXPECT_EQ(first.positions, want.positions);
  EXPECT_EQ(first.labels, want.labels);
  EXPECT_EQ(first.sequences.size(), 1u);
}

}  // namespace
}  // namespace loraine::shared_samples_test
