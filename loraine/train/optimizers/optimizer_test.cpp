// Weight decay leaves out what transformers leaves out, parameters have rates of their own, blocks take turns, states lie where they were.
#include "loraine/train/optimizers/optimizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "loraine/train/optimizers/rules/adamw.h"

namespace loraine::optimizer_test {
namespace {

Recipe adamw_recipe(const std::vector<Parameter>& parameters, double decay) {
  return one_rule(std::make_unique<AdamWRule>(0.9, 0.999, 1e-8), parameters, decay);
}

TEST(Optimizer, DecaysByName) {
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj.weight",
                           "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "model.layers.0.mlp.normalizer.weight"})
    EXPECT_TRUE(decays(name)) << name;
  for (const char* name : {"model.norm.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.q_norm.weight",
                           "model.layers.0.self_attn.q_proj.bias", "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias"})
    EXPECT_FALSE(decays(name)) << name;
}

TEST(Optimizer, DecayMovesWeightsAndNotNorms) {
  std::vector<float> weight = {1}, norm = {1}, zero = {0}, zero_too = {0};
  const auto one = [](std::vector<float>& x) { return Tensor(x.data(), Dtype::F32, {1}); };
  const std::vector<Parameter> parameters = {{"model.norm.weight", one(norm), one(zero)}, {"lm_head.weight", one(weight), one(zero_too)}};
  Optimizer optimizer(parameters, adamw_recipe(parameters, 0.5));
  Context ctx;
  optimizer.step(ctx, 0.1, 0, 1);
  EXPECT_FLOAT_EQ(norm[0], 1);
  EXPECT_FLOAT_EQ(weight[0], 0.95f);
}

TEST(Optimizer, StatesAreOneRecordAndOneBuffer) {
  std::vector<float> a(6, 1), b(4, 1), slopes(10, 0.5f);
  const std::vector<Parameter> parameters = {{"a", Tensor(a.data(), Dtype::F32, {2, 3}), Tensor(slopes.data(), Dtype::F32, {2, 3})},
                                             {"b", Tensor(b.data(), Dtype::F32, {4}), Tensor(slopes.data() + 6, Dtype::F32, {4})}};
  Optimizer optimizer(parameters, adamw_recipe(parameters, 0));
  EXPECT_EQ(optimizer.bytes(), 2 * 10 * sizeof(float));
  const std::vector<OptimizerState> states = optimizer.states();
  ASSERT_EQ(states.size(), 4u);
  EXPECT_EQ(states[0].name, "a.m");
  EXPECT_EQ(states[3].name, "b.v");
  EXPECT_EQ(states[3].values.shape_text(), "[4, 1]");
  Context ctx;
  optimizer.step(ctx, 0.1, 1, 0);
  EXPECT_EQ(optimizer.not_finite_state(ctx), "");
  states[2].values.f32()[1] = NAN;
  EXPECT_EQ(optimizer.not_finite_state(ctx), "b");
}

TEST(BlockOrder, TurnsAsBadamCountsThem) {
  BlockOrder order{.count = 3, .interval = 5};
  std::vector<int64_t> turns;
  for (int64_t update = 1; update <= 11; ++update) turns.push_back(order.turn(update));
  EXPECT_EQ(turns, (std::vector<int64_t>{0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2}));
  EXPECT_EQ(order.first_update(0), 1);
  EXPECT_EQ(order.first_update(2), 10);
  EXPECT_EQ(order.block(4), 1);
  order.mode = BlockOrder::Mode::descending;
  order.start = 2;
  EXPECT_EQ(order.block(0), 2);
  EXPECT_EQ(order.block(4), 1);
  order.interval = 1;
  EXPECT_EQ(order.turn(1), 0);
  EXPECT_EQ(order.turn(2), 1);
  EXPECT_EQ(order.first_update(1), 2);
  order.interval = -1;
  EXPECT_EQ(order.turn(1000), 0);
  order.mode = BlockOrder::Mode::random;
  std::vector<int64_t> seen;
  for (int64_t turn = 3; turn < 6; ++turn) seen.push_back(order.block(turn));
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 1, 2}));
}

TEST(Optimizer, BlocksTakeTurnsAndForget) {
  std::vector<float> values(3, 1), slopes(3, 0.5f);
  std::vector<Parameter> parameters;
  for (int i = 0; i < 3; ++i)
    parameters.push_back({std::string(1, static_cast<char>('a' + i)), Tensor(&values[static_cast<size_t>(i)], Dtype::F32, {1, 1}),
                          Tensor(&slopes[static_cast<size_t>(i)], Dtype::F32, {1, 1})});
  Recipe recipe = adamw_recipe(parameters, 0);
  recipe.blocks = BlockOrder{.block_of = {0, 1, -1}, .count = 2, .interval = 2};
  Optimizer optimizer(parameters, std::move(recipe));
  EXPECT_EQ(optimizer.bytes(), 2 * sizeof(float));  // of the larger block
  Context ctx;
  const auto step = [&] {
    std::ranges::fill(slopes, 0.5f);
    const double norm = optimizer.gradient_norm(ctx);
    EXPECT_DOUBLE_EQ(norm, 0.5);  // of the block alone
    optimizer.step(ctx, 0.1, norm, 0);
  };
  step();
  EXPECT_NEAR(values[0], 0.9, 1e-6);
  EXPECT_EQ(values[1], 1);
  ASSERT_EQ(optimizer.states().size(), 2u);
  EXPECT_EQ(optimizer.states()[0].name, "b.m");  // of the coming update
  EXPECT_EQ(optimizer.states()[0].values.f32()[0], 0);
  step();
  step();
  EXPECT_NEAR(values[0], 0.9, 1e-6);
  EXPECT_NEAR(values[1], 0.8, 1e-6);
  EXPECT_EQ(values[2], 1);
}

}  // namespace
}  // namespace loraine::optimizer_test
