// Weight decay leaves out what transformers leaves out, by name.
#include "loraine/train/optimizer.h"

#include <gtest/gtest.h>

namespace loraine {
namespace {

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
  Optimizer optimizer({{"model.norm.weight", one(norm), one(zero)}, {"lm_head.weight", one(weight), one(zero_too)}});
  AdamW options;
  options.learning_rate = 0.1f;
  options.weight_decay = 0.5f;
  Context ctx;
  optimizer.step(ctx, options, 0, 1);
  EXPECT_FLOAT_EQ(norm[0], 1);
  EXPECT_FLOAT_EQ(weight[0], 0.95f);
}

}  // namespace
}  // namespace loraine
