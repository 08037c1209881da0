// Pooled states.
#include <gtest/gtest.h>

#include <cmath>

#include "loraine/serve/embeddings.h"

namespace loraine::figures_test {
namespace {

TEST(PooledState, MeanOrLastAndOfLengthOne) {
  const std::vector<std::vector<float>> rows = {{3, 0, 1}, {1, 4, 1}};
  PooledState mean(Pooling::mean), last(Pooling::last), none(Pooling::mean);
  for (const auto& row : rows) mean.add(row), last.add(row);
  EXPECT_EQ(mean.embedding({}), (std::vector<float>{2.f / 3, 2.f / 3, 1.f / 3}));
  EXPECT_FLOAT_EQ(last.embedding({})[1], static_cast<float>(4 / std::sqrt(18.0)));
  EXPECT_EQ(last.embedding(1), std::vector<float>{1});
  none.add(std::vector<float>{0, 0});
  EXPECT_EQ(none.embedding({}), (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace loraine::figures_test
