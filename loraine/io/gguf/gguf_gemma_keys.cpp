// What config.json says of Gemma 3n and Gemma 4: inputs of each layer, keys and values that layers share, two kinds of attention.
#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "loraine/io/gguf/gguf_keys.h"
#include "loraine/io/gguf/gguf_names.h"

namespace loraine {
namespace {

// The part of a normal distribution below so many deviations, as the family's config.json has it: a short decimal.
double sparsity_of(float deviations) { return std::round(std::erfc(-deviations / std::sqrt(2.0)) / 2 * 1e6) / 1e6; }

void per_layer_inputs(GgufKeys& keys) {
  keys.config["num_kv_shared_layers"] = keys.size("attention.shared_kv_layers").value_or(0);
  keys.config["hidden_size_per_layer_input"] = keys.size("embedding_length_per_layer_input").value_or(0);
  if (const TensorInfo* table = keys.tensors.find("model.embed_tokens_per_layer.weight"))
    keys.config["vocab_size_per_layer_input"] = table->shape[0];
}

}  // namespace

// Widths of layers, thetas of windows and the clip of AltUp's coefficients stand in llama.cpp's code, not in the file.
void gemma3n_keys(GgufKeys& keys) {
  keys.config["hidden_activation"] = "gelu_pytorch_tanh";
  keys.config.erase("hidden_act");
  keys.config["final_logit_softcapping"] = keys.number("final_logit_softcapping").value_or(30.0);
  if (!keys.windows(5)) keys.refuse("has no attention.sliding_window");
  per_layer_inputs(keys);
  if (const std::vector<uint64_t> inner = gguf_layer_sizes(keys.file, "feed_forward_length", keys.layers); !inner.empty())
    keys.config["intermediate_size"] = inner;
  keys.config.erase("rope_scaling");
  keys.config.erase("rope_theta");
  keys.config["rope_parameters"] = {
      {"full_attention", {{"rope_type", "default"}, {"rope_theta", keys.theta}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", keys.number("rope.freq_base_swa").value_or(10000.0)}}}};
  keys.config["altup_num_inputs"] = keys.size("altup.num_inputs").value_or(4);
  keys.config["altup_active_idx"] = keys.size("altup.active_idx").value_or(0);
  keys.config["altup_coef_clip"] = 120.0;
  keys.config["altup_correct_scale"] = keys.has_in_layers("altup.correct_output_scale");
  if (const TensorInfo* left = keys.first("laurel.linear_left.weight")) keys.config["laurel_rank"] = left->shape[0];
  const std::vector<float> deviations = keys.file.floats("gemma3n.activation_sparsity_scale");
  if (deviations.empty()) return;  // the family's own: 0.95 in the first ten layers
  if (deviations.size() < keys.layers)
    keys.refuse(fmt::format("gemma3n.activation_sparsity_scale has {} entries for {} layers", deviations.size(), keys.layers));
  keys.config["activation_sparsity_pattern"] = Json::array();
  for (uint64_t layer = 0; layer < keys.layers; ++layer)
    keys.config["activation_sparsity_pattern"].push_back(sparsity_of(deviations[layer]));
}

void gemma4_keys(GgufKeys& keys) {
  keys.config["hidden_activation"] = "gelu_pytorch_tanh";
  keys.config.erase("hidden_act");
  keys.copy_number("final_logit_softcapping", "final_logit_softcapping");
  if (!keys.windows(6)) keys.refuse("has no attention.sliding_window");
  const auto local = keys.size("attention.key_length_swa");
  keys.config["global_head_dim"] = keys.head_dim;
  keys.config["head_dim"] = local.value_or(keys.head_dim);
  const std::vector<uint64_t> kv_heads = gguf_layer_sizes(keys.file, "attention.head_count_kv", keys.layers);
  keys.config["attention_k_eq_v"] = false;
  for (uint64_t layer = 0; layer < keys.layers; ++layer) {
    const bool full = keys.config["layer_types"][layer] == "full_attention";
    if (layer < kv_heads.size()) keys.config[full ? "num_global_key_value_heads" : "num_key_value_heads"] = kv_heads[layer];
    const std::string name = fmt::format("model.layers.{}.self_attn.", layer);
    if (full && keys.has(name + "k_proj.weight") && !keys.has(name + "v_proj.weight")) keys.config["attention_k_eq_v"] = true;
  }
  per_layer_inputs(keys);
  const std::vector<uint64_t> inner = gguf_layer_sizes(keys.file, "feed_forward_length", keys.layers);
  if (!inner.empty()) {
    keys.config["intermediate_size"] = inner[0];
    keys.config["use_double_wide_mlp"] = inner.back() == 2 * inner[0];
  }
  keys.config.erase("rope_scaling");
  keys.config.erase("rope_theta");
  double part = 0.25;
  for (const GgufTensor& tensor : keys.file.tensors) {
    if (tensor.name != "rope_freqs.weight") continue;
    int64_t turning = 0;
    for (int64_t i = 0; i < tensor.shape[0]; ++i) {
      float factor = 0;
      std::memcpy(&factor, keys.file.file.data() + tensor.offset + static_cast<size_t>(i) * 4, 4);
      turning += factor == 1;
    }
    part = static_cast<double>(turning) / static_cast<double>(tensor.shape[0]);
  }
  keys.config["rope_parameters"] = {
      {"full_attention", {{"rope_type", "proportional"}, {"partial_rotary_factor", part}, {"rope_theta", keys.theta}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", keys.number("rope.freq_base_swa").value_or(10000.0)}}}};
  keys.config.erase("partial_rotary_factor");
  keys.config["enable_moe_block"] = keys.size("expert_count").value_or(0) > 0;
  if (keys.config["enable_moe_block"] == false) return;
  gguf_expert_sizes(keys, "num_experts", "moe_intermediate_size");
  keys.config["top_k_experts"] = keys.config["num_experts_per_tok"];
  keys.config.erase("num_experts_per_tok");
}

}  // namespace loraine
