// Orders as torch gives them, whole and by their beginnings.
#include "loraine/core/torch_random.h"

#include <gtest/gtest.h>

#include "loraine/core/error.h"

namespace loraine::torch_random_test {
namespace {

using Numbers = std::vector<int64_t>;

TEST(TorchRandom, KnownOrders) {
  EXPECT_EQ(torch_randperm(10, 42), (Numbers{2, 6, 1, 8, 4, 5, 0, 9, 3, 7}));
  EXPECT_EQ(torch_randperm(10, 43), (Numbers{8, 4, 9, 0, 5, 1, 6, 7, 2, 3}));
  EXPECT_THROW(torch_randperm(int64_t{1} << 31, 1), Error);
}

TEST(TorchRandom, TheFirstOfAnOrder) {
  for (const int64_t n : {1, 2, 7, 300})
    for (const int64_t count : {0, 1, 2, 6, 7, 299, 300, 400}) {
      Numbers all = torch_randperm(n, 777);
      all.resize(static_cast<size_t>(std::min(n, count)));
      EXPECT_EQ(torch_randperm_first(n, count, 777), all) << n << " " << count;
    }
}

}  // namespace
}  // namespace loraine::torch_random_test
