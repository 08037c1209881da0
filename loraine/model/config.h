// One record of flags per model, made from Hugging Face's config.json by the families. Field names are Hugging Face's.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace loraine {

struct ModelConfig {
  std::string model_type;
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, num_hidden_layers = 0;
  int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0, max_position_embeddings = 0;
  float rms_norm_eps = 1e-6f;
  bool tie_word_embeddings = false;
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  bool qk_norm = false;                    // RMSNorm over each head of q and k before the rotation (Qwen 3)
  std::vector<int64_t> window;             // [num_hidden_layers]; 0 = full attention
  std::vector<float> inverse_frequencies;  // [head_dim / 2], rope scaling applied
  std::vector<int32_t> eos_token_ids;      // config.json's eos_token_id, one or several
  int32_t bos_token_id = -1;

  int64_t q_size() const { return num_attention_heads * head_dim; }
  int64_t kv_size() const { return num_key_value_heads * head_dim; }
};

// Throws bad_data naming the key (a bad value, a head count that does not divide) or the model_type that no family knows.
ModelConfig model_config(const nlohmann::json& hf, const std::string& file);

}  // namespace loraine
