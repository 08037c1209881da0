// config.json: what transformers refuses or takes for absent is so here, and a message names the key, what it found and what there is.
#include "loraine/model/families/families.h"

#include <gtest/gtest.h>

#include "loraine/core/error.h"
#include "loraine/model/mixers/attention.h"
#include "loraine/model/mixers/experts.h"
#include "loraine/model/mixers/gated_delta_net.h"
#include "loraine/model/mixers/latent_attention.h"
#include "loraine/model/mixers/lightning_attention.h"

namespace loraine::families_test {
namespace {

nlohmann::json config(const char* type) {
  return {{"model_type", type},      {"vocab_size", 32},       {"hidden_size", 16},
          {"intermediate_size", 24}, {"num_hidden_layers", 3}, {"num_attention_heads", 2}};
}

std::string message_of(const nlohmann::json& hf) {
  try {
    model_config(hf, "config.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::bad_data);
    return error.what();
  }
  return "accepted";
}

TEST(Families, NullIsAValueOnlyWhereTransformersTakesIt) {
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "rms_norm_eps",
                          "max_position_embeddings", "tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act"}) {
    nlohmann::json hf = config("llama");
    hf[key] = nullptr;
    EXPECT_NE(message_of(hf).find(std::string(key) + " is null, expected"), std::string::npos) << message_of(hf);
  }
  for (const char* key :
       {"num_key_value_heads", "head_dim", "rope_scaling", "rope_parameters", "rope_theta", "sliding_window", "eos_token_id"})
    for (const char* type : {"llama", "mistral", "qwen2"}) {
      nlohmann::json hf = config(type);
      hf[key] = nullptr;
      EXPECT_EQ(message_of(hf), "accepted") << type << " " << key;
    }
  for (const char* key : {"use_sliding_window", "max_window_layers"}) {
    nlohmann::json hf = config("qwen2");
    hf["use_sliding_window"] = true;
    hf[key] = nullptr;
    EXPECT_NE(message_of(hf).find(std::string(key) + " is null"), std::string::npos) << message_of(hf);
  }
}

std::vector<int64_t> windows_of(const nlohmann::json& hf) {
  std::vector<int64_t> all;
  for (const LayerConfig& layer : model_config(hf, "config.json").layers)
    all.push_back(dynamic_cast<const AttentionConfig&>(*layer.branches[0].mixer).window);
  return all;
}

TEST(Families, AnAbsentWindowIsTransformersOwn) {
  nlohmann::json hf = config("mistral");
  EXPECT_EQ(windows_of(hf), (std::vector<int64_t>{4096, 4096, 4096}));
  hf["sliding_window"] = nullptr;
  EXPECT_EQ(windows_of(hf), (std::vector<int64_t>{0, 0, 0}));
  hf = config("qwen2");
  EXPECT_EQ(windows_of(hf), (std::vector<int64_t>{0, 0, 0}));
  hf["use_sliding_window"] = true;
  hf["max_window_layers"] = 2;
  EXPECT_EQ(windows_of(hf), (std::vector<int64_t>{0, 0, 4096}));
}

TEST(Families, AnUnknownRopeIsNamed) {
  for (const char* key : {"rope_scaling", "rope_parameters"})
    for (const char* name : {"type", "rope_type"}) {
      nlohmann::json hf = config("llama");
      hf[key] = {{name, "spiral"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}};
      const std::string said = message_of(hf);
      for (const std::string& word : {std::string(key) + ": ", std::string(name) + " is \"spiral\"", std::string("linear")})
        EXPECT_NE(said.find(word), std::string::npos) << said;
      hf[key] = {{name, "linear"}};
      EXPECT_NE(message_of(hf).find("factor is absent"), std::string::npos) << message_of(hf);
    }
}

// Kimi Linear as published: sizes and layers in an object, layers counted from 1.
nlohmann::json published_kimi() {
  nlohmann::json hf = config("kimi_linear");
  hf.update({{"num_hidden_layers", 4},
             {"kv_lora_rank", 12},
             {"qk_nope_head_dim", 8},
             {"qk_rope_head_dim", 4},
             {"v_head_dim", 6},
             {"q_lora_rank", nullptr},
             {"mla_use_nope", true},
             {"model_max_length", 512},
             {"first_k_dense_replace", 1},
             {"num_experts", 4},
             {"num_experts_per_token", 2},
             {"num_shared_experts", 1},
             {"moe_intermediate_size", 10},
             {"moe_renormalize", true},
             {"moe_router_activation_func", "sigmoid"},
             {"linear_attn_config",
              {{"full_attn_layers", {4}}, {"kda_layers", {1, 2, 3}}, {"num_heads", 2}, {"head_dim", 6}, {"short_conv_kernel_size", 3}}}});
  return hf;
}

TEST(Families, KimiLinearIsReadAsPublished) {
  const ModelConfig c = model_config(published_kimi(), "config.json");
  EXPECT_EQ(c.max_position_embeddings, 512);
  for (size_t layer = 0; layer < 4; ++layer) {
    const auto* delta = dynamic_cast<const GatedDeltaNetConfig*>(c.layers[layer].branches[0].mixer.get());
    const auto* attention = dynamic_cast<const LatentAttentionConfig*>(c.layers[layer].branches[0].mixer.get());
    EXPECT_EQ(dynamic_cast<const ExpertsConfig*>(c.layers[layer].branches[1].mixer.get()) != nullptr, layer > 0);
    ASSERT_EQ(attention != nullptr, layer == 3);
    if (attention) {
      EXPECT_EQ(attention->rope, nullptr);
      continue;
    }
    ASSERT_NE(delta, nullptr);
    EXPECT_EQ(delta->value_heads, 2);
    EXPECT_EQ(delta->key_dim, 6);
    EXPECT_EQ(delta->rank, 6);
    EXPECT_EQ(delta->taps, 3);
  }
  // Saved by transformers, and published: the dense layer alone is called otherwise.
  ASSERT_EQ(c.names.stored.size(), 2u);
  for (const size_t form : {0, 1}) {
    ModelNames names = c.names;
    names.stored = {c.names.stored[form]};
    EXPECT_EQ(names.in_files("model.layers.0.mlp.gate_proj"),
              form == 0 ? "model.layers.0.block_sparse_moe.gate_proj" : "model.layers.0.mlp.gate_proj");
    EXPECT_EQ(names.in_files("model.layers.1.mlp.gate"), "model.layers.1.block_sparse_moe.gate");
    EXPECT_EQ(names.in_files("model.layers.1.mlp.shared_experts.up_proj"), "model.layers.1.block_sparse_moe.shared_experts.up_proj");
    EXPECT_EQ(names.in_files("model.layers.0.self_attn.forget_gate.A_log"), "model.layers.0.self_attn.A_log");
  }

  nlohmann::json hf = published_kimi();
  hf["linear_attn_config"]["kda_layers"] = {1, 2};
  EXPECT_NE(message_of(hf).find("layer 3 either here or in full_attn_layers"), std::string::npos) << message_of(hf);
  for (const auto& [key, value] :
       {std::pair<const char*, nlohmann::json>{"mla_use_nope", false}, {"moe_router_activation_func", "softmax"}, {"moe_layer_freq", 2}}) {
    hf = published_kimi();
    hf[key] = value;
    EXPECT_NE(message_of(hf).find(key), std::string::npos) << message_of(hf);
  }
}

TEST(Families, MiniMaxGoesOnFromItsNorms) {
  nlohmann::json hf = config("minimax");
  hf.update({{"num_local_experts", 4},
             {"num_experts_per_tok", 2},
             {"layer_types", {"linear_attention", "full_attention", "linear_attention"}},
             {"linear_attn_alpha_factor", 1.5},
             {"full_attn_beta_factor", 2},
             {"mlp_alpha_factor", 3}});
  const ModelConfig c = model_config(hf, "config.json");
  for (size_t layer = 0; layer < 3; ++layer) {
    const auto& [attention, experts] = std::pair(c.layers[layer].branches[0], c.layers[layer].branches[1]);
    EXPECT_EQ(attention.normed_residual, layer == 1 ? 1.0f : 1.5f);
    EXPECT_EQ(attention.scale, layer == 1 ? 2.0f : 1.0f);
    EXPECT_EQ(experts.normed_residual, 3.0f);
    EXPECT_EQ(experts.scale, 1.0f);
  }
  // Slopes 2^(−8 h / heads), times 1 − layer / (layers − 1), as transformers rounds them.
  const auto decay = [&](size_t layer) { return dynamic_cast<const LightningAttentionConfig&>(*c.layers[layer].branches[0].mixer).decay; };
  ASSERT_EQ(decay(0).size(), 2u);
  EXPECT_NEAR(decay(0)[0], -0.0625 * 1.00001, 1e-8);
  EXPECT_NEAR(decay(0)[1], -0.00390625 * 1.00001, 1e-9);
  EXPECT_NEAR(decay(2)[0], -0.0625 * 1.5e-5, 1e-8);
}

}  // namespace
}  // namespace loraine::families_test
