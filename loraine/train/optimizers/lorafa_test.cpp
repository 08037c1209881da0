// LoRA-FA: the inverse, and one update against the formula.
#include "loraine/train/optimizers/lorafa.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "loraine/core/error.h"

namespace loraine::lorafa_test {
namespace {

TEST(LoraFa, InvertsASymmetricMatrixAndLeavesOutNothingDirections) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal(0, 1);
  constexpr int64_t n = 7;
  for (const int64_t columns : {12, 4}) {  // 4: of rank 4 only
    std::vector<double> x(static_cast<size_t>(n * columns)), m(static_cast<size_t>(n * n));
    for (double& v : x) v = normal(random);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t k = 0; k < columns; ++k)
          m[static_cast<size_t>(i * n + j)] += x[static_cast<size_t>(i * columns + k)] * x[static_cast<size_t>(j * columns + k)];
    std::vector<double> inverse = m;
    invert_symmetric(inverse, n);
    for (int64_t i = 0; i < n; ++i)  // m m⁺ m = m
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < n; ++k)
          for (int64_t l = 0; l < n; ++l)
            sum += m[static_cast<size_t>(i * n + k)] * inverse[static_cast<size_t>(k * n + l)] * m[static_cast<size_t>(l * n + j)];
        EXPECT_NEAR(sum, m[static_cast<size_t>(i * n + j)], 1e-9);
      }
  }
}

// A of orthogonal rows of length 2: the projection divides the gradient by 4 s².
TEST(LoraFa, OneUpdate) {
  float a_values[] = {2, 0, 0, 0, 2, 0}, b[] = {1, 2, 3, 4}, g[] = {1, -2, 4, 0.5f};
  float states_memory[8] = {}, scratch[4];
  const Tensor a(a_values, Dtype::F32, {2, 3}), value(b, Dtype::F32, {2, 2}), gradient(g, Dtype::F32, {2, 2});
  const LoraFaRule rule(a, 0.5f, 0.9, 0.999, 1e-6);
  const std::vector<StateShape> shapes = rule.states({"lora_B.weight", value, gradient});
  ASSERT_EQ(shapes.size(), 2u);
  EXPECT_EQ(rule.scratch_bytes({"lora_B.weight", value, gradient}), sizeof scratch);
  const Tensor states[] = {Tensor(states_memory, Dtype::F32, shapes[0].shape), Tensor(states_memory + 4, Dtype::F32, shapes[1].shape)};
  Context ctx;
  Update u{value, gradient};
  u.rate = 0.01;
  u.decay = 0.1;
  rule.update(ctx, u, states, scratch);
  const float before[] = {1, 2, 3, 4};
  for (int i = 0; i < 4; ++i) {
    const double projected = static_cast<double>(g[i]) / (4 * 0.25);
    EXPECT_NEAR(states_memory[i], 0.1 * projected, 1e-6);
    const double root = std::sqrt(0.001) * std::abs(projected), step = 0.01 * std::sqrt(0.001) / 0.1;
    const double moved = static_cast<double>(before[i]) - step * 0.1 * projected / (root + 1e-6);
    EXPECT_NEAR(b[i], moved * (1 - 0.01 * 0.1), 1e-5);
  }
}

TEST(LoraFa, RefusesWhatItDoesNotGoWith) {
  TrainConfig config;
  config.use_lorafa = true;
  EXPECT_NO_THROW(check_lorafa(config));
  for (const auto& change : std::vector<std::function<void(TrainConfig&)>>{
           [](TrainConfig& c) { c.use_dora = true; }, [](TrainConfig& c) { c.loraplus_lr_ratio = 4; },
           [](TrainConfig& c) { c.optim = "lion_32bit"; }, [](TrainConfig& c) { c.lora_target = "q_proj,embed_tokens"; },
           [](TrainConfig& c) { c.use_muon = true; }}) {
    TrainConfig other = config;
    change(other);
    EXPECT_THROW(check_lorafa(other), Error);
  }
}

}  // namespace
}  // namespace loraine::lorafa_test
