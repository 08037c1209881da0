// Shares of BAdam: of their size, one after the other, each element once in a round; drawn ones too.
#include "loraine/train/optimizers/rules/badam.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace loraine::badam_test {
namespace {

// The elements that update `step` looks at.
std::vector<size_t> trained_at(const BAdamRatioRule& rule, int64_t n, int64_t step) {
  std::vector<float> value(static_cast<size_t>(n)), gradient(value.size(), 1.0f), scratch(value.size());
  const Update u{.value = Tensor(value.data(), Dtype::F32, {n}), .gradient = Tensor(gradient.data(), Dtype::F32, {n}), .step = step};
  rule.restrict_gradient(u, scratch.data());
  std::vector<size_t> kept;
  for (size_t i = 0; i < gradient.size(); ++i)
    if (gradient[i] != 0) kept.push_back(i);
  return kept;
}

TEST(BAdamRatio, NeighboursMoveOnAndWrap) {
  const BAdamRatioRule rule({}, 0.3, false, 1);
  EXPECT_EQ(trained_at(rule, 11, 1), (std::vector<size_t>{0, 1, 2}));
  EXPECT_EQ(trained_at(rule, 11, 100), (std::vector<size_t>{0, 1, 2}));
  EXPECT_EQ(trained_at(rule, 11, 101), (std::vector<size_t>{3, 4, 5}));
  EXPECT_EQ(trained_at(rule, 11, 301), (std::vector<size_t>{0, 9, 10}));
}

TEST(BAdamRatio, DrawnElementsAreEachTakenOnce) {
  for (const int64_t n : {10, 1000, 4096, 5003}) {
    const BAdamRatioRule rule({}, 0.1, true, 7), other({}, 0.1, true, 8);
    std::vector<int> times(static_cast<size_t>(n));
    for (int64_t turn = 0; turn < 10; ++turn) {
      const std::vector<size_t> now = trained_at(rule, n, turn * 100 + 1);
      EXPECT_EQ(static_cast<int64_t>(now.size()), n / 10);
      for (const size_t i : now) ++times[i];
    }
    EXPECT_EQ(std::accumulate(times.begin(), times.end(), 0), n / 10 * 10);
    EXPECT_EQ(*std::ranges::max_element(times), 1) << n;
    if (n > 10) { EXPECT_NE(trained_at(rule, n, 1), trained_at(other, n, 1)); }
  }
}

TEST(BAdamRatio, MomentsBeginAnewWithEachShare) {
  const BAdamRatioRule rule({}, 0.5, false, 1);
  std::vector<float> value(4, 1), gradient(4, 0.5f), m(2), v(2), scratch(2);
  const std::vector<Tensor> states = {Tensor(m.data(), Dtype::F32, {2}), Tensor(v.data(), Dtype::F32, {2})};
  Update u{.value = Tensor(value.data(), Dtype::F32, {4}), .gradient = Tensor(gradient.data(), Dtype::F32, {4}), .rate = 0.1};
  Context ctx;
  for (u.step = 1; u.step <= 101; ++u.step) {
    std::ranges::fill(gradient, 0.5f);
    rule.restrict_gradient(u, scratch.data());
    rule.update(ctx, u, states, nullptr);
  }
  EXPECT_NEAR(value[0], 1 - 100 * 0.1, 1e-3);
  EXPECT_NEAR(value[3], 0.9, 1e-5);
  EXPECT_NEAR(m[1], 0.05, 1e-6);  // one update
}

}  // namespace
}  // namespace loraine::badam_test
