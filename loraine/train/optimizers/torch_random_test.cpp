// Against what torch 2.15 printed.
#include "loraine/train/optimizers/torch_random.h"

#include <gtest/gtest.h>

#include <vector>

namespace loraine::torch_random_test {
namespace {

void expect_normal(size_t n, const std::vector<float>& first, size_t from = 0) {
  std::vector<float> out(n);
  torch_normal(out, 7);
  for (size_t i = 0; i < first.size(); ++i) EXPECT_NEAR(out[from + i], first[i], 1e-6) << n << " " << i;
}

TEST(TorchRandom, AsTorch) {
  expect_normal(
      9, {-0.146795094f, 0.786141276f, 0.94682163f, -1.114344f, 1.69079018f, -0.894827902f, -0.355625033f, 1.23238575f, 0.138172656f});
  expect_normal(16, {-0.820134521f, 0.395631164f, 0.898908496f, -1.38840389f, -0.166996017f, 0.285149962f, -0.641091526f, -0.893655419f,
                     0.926542997f, -0.535512209f});
  expect_normal(20, {-0.820134521f, 0.395631164f, 0.898908496f, -1.38840389f, 0.198445052f, 0.782072663f, 1.03910768f});
  expect_normal(20, {-2.05646253f, -0.356722534f}, 18);
  EXPECT_EQ(next_torch_seed(1), 505211975917066638u);
  EXPECT_EQ(next_torch_seed(next_torch_seed(7)), 4231105552642210152u);
}

}  // namespace
}  // namespace loraine::torch_random_test
