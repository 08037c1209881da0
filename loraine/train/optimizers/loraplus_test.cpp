// The groups of LoRA+, and the update of each at its own rate.
#include "loraine/train/optimizers/loraplus.h"

#include <gtest/gtest.h>

#include "loraine/train/optimizers/optimizer.h"

namespace loraine::loraplus_test {
namespace {

TEST(LoraPlus, GroupsAsLlamaFactory) {
  float x[4] = {};
  const Tensor matrix(x, Dtype::F32, {2, 2}), vector(x, Dtype::F32, {4});
  const std::vector<Parameter> parameters = {{"a.q_proj.lora_A.weight", matrix, {}},
                                             {"a.q_proj.lora_B.weight", matrix, {}},
                                             {"a.q_proj.lora_magnitude_vector", vector, {}},
                                             {"a.embed_tokens.lora_embedding_A", matrix, {}},
                                             {"a.embed_tokens.lora_embedding_B", matrix, {}}};
  EXPECT_EQ(loraplus_factors(parameters, {16, 1e-6, 1e-4}), (std::vector<double>{1, 16, 16, 1, 1e-6 / 1e-4}));
}

TEST(LoraPlus, OptimizerMovesEachParameterAtItsRate) {
  float value[2] = {1, 1}, gradient[2] = {0.5f, 0.5f};
  auto one = [&](int i) { return Tensor(&value[i], Dtype::F32, {1, 1}); };
  auto slope = [&](int i) { return Tensor(&gradient[i], Dtype::F32, {1, 1}); };
  const std::vector<Parameter> parameters = {{"lora_A", one(0), slope(0)}, {"lora_B", one(1), slope(1)}};
  TrainConfig config;
  config.learning_rate = 1e-3;
  config.loraplus_lr_ratio = 16;
  Optimizer optimizer(parameters, recipe_of(config, {}, parameters, 0));
  Context ctx;
  optimizer.step(ctx, 1e-3, 1, 0);
  EXPECT_NEAR(1 - value[0], 1e-3, 1e-6);  // the first step of AdamW has the size of its rate
  EXPECT_NEAR(1 - value[1], 16e-3, 1e-6);
}

}  // namespace
}  // namespace loraine::loraplus_test
