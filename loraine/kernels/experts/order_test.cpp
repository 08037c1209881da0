// Rows sorted by expert: every choice has a row, rows of an expert are in the order of their tokens.
#include "loraine/kernels/experts/order.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "tests/support/expert_rows.h"

namespace loraine::order_test {
namespace {

TEST(ExpertOrder, SortsChoicesByExpertAndToken) {
  for (int64_t T : {0, 1, 7, 200}) {
    const int64_t K = 3, E = 9;
    const ChosenRows rows(T, K, E, 5);
    const int32_t *offsets = rows.offsets(), *tokens = rows.tokens(), *places = rows.places();
    EXPECT_EQ(offsets[0], 0);
    EXPECT_EQ(offsets[E], T * K);
    std::vector<int> seen(static_cast<size_t>(T * K));
    for (int64_t i = 0; i < T * K; ++i) {
      const int32_t e = rows.chosen[static_cast<size_t>(i)], place = places[i];
      ++seen[static_cast<size_t>(place)];
      EXPECT_TRUE(place >= offsets[e] && place < offsets[e + 1]);
      EXPECT_EQ(tokens[place], i / K);
    }
    EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
    for (int64_t e = 0; e < E; ++e) EXPECT_TRUE(std::is_sorted(tokens + offsets[e], tokens + offsets[e + 1]));
  }
}

TEST(ExpertOrder, RefusesAnExpertThatIsNone) {
  Context ctx;
  ChosenRows rows(4, 2, 5, 1);
  const Tensor chosen(rows.chosen.data(), Dtype::I32, {4, 2});
  for (int32_t bad : {-1, 5}) {
    rows.chosen[3] = bad;
    EXPECT_THROW(order_by_expert(ctx, rows.order, chosen), Error);
  }
}

}  // namespace
}  // namespace loraine::order_test
