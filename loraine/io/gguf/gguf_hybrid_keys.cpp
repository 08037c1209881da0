// What config.json says of layers of several kinds: short convolutions, the gated delta rule, Mamba-2.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/io/gguf/gguf_keys.h"
#include "loraine/io/gguf/gguf_names.h"

namespace loraine {
namespace {

// Layers whose number of key-value heads is 0 have `other` instead of attention.
std::vector<bool> attention_layers(const GgufKeys& keys) {
  const std::vector<uint64_t> kv_heads = gguf_layer_sizes(keys.file, "attention.head_count_kv", keys.layers);
  std::vector<bool> all;
  for (uint64_t layer = 0; layer < keys.layers; ++layer) all.push_back(layer >= kv_heads.size() || kv_heads[layer] != 0);
  return all;
}

void name_layers(GgufKeys& keys, const std::vector<bool>& attention, const char* full, const char* other) {
  keys.config["layer_types"] = Json::array();
  for (const bool attends : attention) keys.config["layer_types"].push_back(attends ? full : other);
}

// The first of the marked layers and the distance from each to the next; without any, or after the last, beyond all layers.
void even_distances(GgufKeys& keys, const std::vector<bool>& marked, const char* offset, const char* period) {
  const auto first = std::find(marked.begin(), marked.end(), true);
  const auto second = first == marked.end() ? marked.end() : std::find(first + 1, marked.end(), true);
  const auto begin = static_cast<uint64_t>(first - marked.begin());
  const uint64_t distance = second == marked.end() ? keys.layers + 1 : static_cast<uint64_t>(second - first);
  for (uint64_t layer = 0; layer < keys.layers; ++layer)
    if (marked[layer] != (layer % distance == begin))
      keys.refuse(fmt::format("layer {} is {}of the kind whose layers are {} apart from layer {} on", layer, marked[layer] ? "" : "not ",
                              distance, begin));
  keys.config[offset] = begin;
  keys.config[period] = distance;
}

uint64_t required(const GgufKeys& keys, const char* key) { return required_gguf_size(keys.file, key); }

void delta_rule(GgufKeys& keys) {
  keys.config["linear_num_key_heads"] = required(keys, "ssm.group_count");
  keys.config["linear_num_value_heads"] = required(keys, "ssm.time_step_rank");
  keys.config["linear_key_head_dim"] = required(keys, "ssm.state_size");
  keys.config["linear_value_head_dim"] = required(keys, "ssm.inner_size") / required(keys, "ssm.time_step_rank");
  keys.config["linear_conv_kernel_dim"] = required(keys, "ssm.conv_kernel");
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
  const std::vector<int64_t> recurrent = keys.file.integers(std::string(keys.architecture.name) + ".attention.recurrent_layers");
  const uint64_t interval = keys.size("full_attention_interval").value_or(4), extra = keys.size("nextn_predict_layers").value_or(0);
  if (interval == 0 || extra >= keys.layers) keys.refuse("has no layers of full attention, or none of its own");
  if (!recurrent.empty() && recurrent.size() < keys.layers)
    keys.refuse(fmt::format("attention.recurrent_layers has {} entries for {} layers", recurrent.size(), keys.layers));
  keys.layers -= extra;
  keys.config["num_hidden_layers"] = keys.layers;
  std::vector<bool> attention;
  for (uint64_t layer = 0; layer < keys.layers; ++layer)
    attention.push_back(recurrent.empty() ? (layer + 1) % interval == 0 : recurrent[layer] == 0);
  name_layers(keys, attention, "full_attention", "linear_attention");
}

void mamba(GgufKeys& keys, const char* heads, const char* head_dim, const char* groups, const char* state, const char* kernel) {
  const uint64_t count = required(keys, "ssm.time_step_rank"), inner = required(keys, "ssm.inner_size");
  if (inner % count != 0) keys.refuse(fmt::format("ssm.inner_size {} is no multiple of its {} heads", inner, count));
  keys.config[heads] = count;
  keys.config[head_dim] = inner / count;
  keys.config[groups] = required(keys, "ssm.group_count");
  keys.config[state] = required(keys, "ssm.state_size");
  keys.config[kernel] = required(keys, "ssm.conv_kernel");
}

}  // namespace

void lfm2_keys(GgufKeys& keys) {
  keys.config["conv_L_cache"] = required(keys, "shortconv.l_cache");
  keys.config["conv_bias"] = keys.has_in_layers("conv.conv.bias");
  keys.config["block_auto_adjust_ff_dim"] = false;
  name_layers(keys, attention_layers(keys), "full_attention", "conv");
}

void lfm2moe_keys(GgufKeys& keys) {
  lfm2_keys(keys);
  gguf_expert_sizes(keys, "num_experts", "moe_intermediate_size");
  keys.config["num_dense_layers"] = keys.size("leading_dense_block_count").value_or(0);
  keys.config["norm_topk_prob"] = keys.flag("expert_weights_norm").value_or(true);
  keys.config["routed_scaling_factor"] = keys.number("expert_weights_scale").value_or(1.0);
  keys.config["use_expert_bias"] = keys.has_in_layers("feed_forward.expert_bias");
}

void qwen35_keys(GgufKeys& keys) {
  delta_rule(keys);
  keys.config["attn_output_gate"] = true;
}

void qwen35moe_keys(GgufKeys& keys) {
  qwen35_keys(keys);
  gguf_expert_sizes(keys, "num_experts", "moe_intermediate_size");
  keys.copy_size("expert_shared_feed_forward_length", "shared_expert_intermediate_size");
  keys.config["norm_topk_prob"] = true;
}

void qwen3next_keys(GgufKeys& keys) {
  delta_rule(keys);
  gguf_expert_sizes(keys, "num_experts", "moe_intermediate_size");
  keys.copy_size("expert_shared_feed_forward_length", "shared_expert_intermediate_size");
  keys.config["norm_topk_prob"] = keys.flag("expert_weights_norm").value_or(true);
  keys.config["decoder_sparse_step"] = 1;
  keys.config["mlp_only_layers"] = Json::array();
}

// In the words of published files: layers are counted from 1.
void kimi_linear_keys(GgufKeys& keys) {
  gguf_latent_sizes(keys);
  const std::vector<bool> attention = attention_layers(keys);
  Json full = Json::array(), recurrent = Json::array();
  for (uint64_t layer = 0; layer < keys.layers; ++layer) (attention[layer] ? full : recurrent).push_back(layer + 1);
  keys.config["linear_attn_config"] = {{"full_attn_layers", full},
                                       {"kda_layers", recurrent},
                                       {"num_heads", keys.heads},
                                       {"head_dim", required(keys, "kda.head_dim")},
                                       {"short_conv_kernel_size", required(keys, "ssm.conv_kernel")}};
  keys.config["mla_use_nope"] = true;
  keys.config["model_max_length"] = keys.config["max_position_embeddings"];
  gguf_expert_sizes(keys, "num_experts", "moe_intermediate_size");
  keys.config["num_experts_per_token"] = required(keys, "expert_used_count");
  for (const char* other : {"max_position_embeddings", "num_experts_per_tok"}) keys.config.erase(other);
  keys.config["num_shared_experts"] = keys.size("expert_shared_count").value_or(0);
  keys.config["first_k_dense_replace"] = keys.size("leading_dense_block_count").value_or(0);
  keys.config["num_expert_group"] = keys.config["topk_group"] = 1;
  keys.config["routed_scaling_factor"] = keys.number("expert_weights_scale").value_or(1.0);
  keys.config["moe_renormalize"] = keys.flag("expert_weights_norm").value_or(true);
  keys.config["moe_router_activation_func"] = "sigmoid";
  keys.config["moe_layer_freq"] = 1;
}

// Layers of attention and of experts stand at even distances.
void jamba_keys(GgufKeys& keys) {
  const uint64_t inner = required(keys, "ssm.inner_size");
  if (inner % keys.hidden != 0) keys.refuse(fmt::format("ssm.inner_size {} is no multiple of embedding_length {}", inner, keys.hidden));
  keys.config["mamba_expand"] = inner / keys.hidden;
  keys.config["mamba_d_conv"] = required(keys, "ssm.conv_kernel");
  keys.config["mamba_d_state"] = required(keys, "ssm.state_size");
  keys.config["mamba_dt_rank"] = required(keys, "ssm.time_step_rank");
  keys.config["mamba_conv_bias"] = keys.has_in_layers("mamba.conv1d.bias");
  keys.config["mamba_proj_bias"] = keys.has_in_layers("mamba.in_proj.bias");
  keys.config["num_experts"] = keys.size("expert_count").value_or(1);
  keys.config["num_experts_per_tok"] = keys.size("expert_used_count").value_or(1);
  keys.config.erase("rope_theta");  // nothing turns
  std::vector<bool> experts;
  for (uint64_t layer = 0; layer < keys.layers; ++layer)
    experts.push_back(keys.has(fmt::format("model.layers.{}.feed_forward.router.weight", layer)));
  even_distances(keys, attention_layers(keys), "attn_layer_offset", "attn_layer_period");
  even_distances(keys, experts, "expert_layer_offset", "expert_layer_period");
}

// Bamba is stored so too: without scales, and only a part of each head turns.
void granitehybrid_keys(GgufKeys& keys) {
  granite_keys(keys);
  if (!keys.config.contains("attention_multiplier"))
    keys.config["attention_multiplier"] = 1 / std::sqrt(static_cast<double>(keys.head_dim));
  keys.config["position_embedding_type"] = keys.flag("rope.scaling.finetuned").value_or(true) ? "rope" : "nope";
  name_layers(keys, attention_layers(keys), "attention", "mamba");
  mamba(keys, "mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv");
  keys.config["mamba_expand"] = static_cast<double>(required(keys, "ssm.inner_size")) / static_cast<double>(keys.hidden);
  if (required(keys, "ssm.inner_size") % keys.hidden == 0) keys.config["mamba_expand"] = required(keys, "ssm.inner_size") / keys.hidden;
  keys.config["mamba_conv_bias"] = keys.has_in_layers("mamba.conv1d.bias");
  keys.config["mamba_proj_bias"] = keys.has_in_layers("mamba.in_proj.bias");
  keys.config["num_local_experts"] = 0;
  if (keys.size("expert_count").value_or(0) > 0) gguf_expert_sizes(keys, "num_local_experts", "intermediate_size");
  if (const TensorInfo* experts = keys.first("block_sparse_moe.input_linear.weight"))
    keys.config["intermediate_size"] = experts->shape[1] / 2;
  if (const TensorInfo* shared = keys.first("shared_mlp.input_linear.weight"))
    keys.config["shared_intermediate_size"] = shared->shape[0] / 2;
}

// llama.cpp folds all multipliers into the weights.
void falcon_h1_keys(GgufKeys& keys) {
  mamba(keys, "mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv");
  keys.config["mamba_d_ssm"] = required(keys, "ssm.inner_size");
  keys.config["mamba_rms_norm"] = keys.has_in_layers("mamba.norm.weight");
  keys.config["mamba_norm_before_gate"] = false;
  keys.config["mamba_conv_bias"] = keys.has_in_layers("mamba.conv1d.bias");
  keys.config["mamba_proj_bias"] = keys.has_in_layers("mamba.in_proj.bias");
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
  keys.config["mlp_bias"] = keys.has_in_layers("feed_forward.down_proj.bias");
  for (const char* one : {"attention_in_multiplier", "attention_out_multiplier", "embedding_multiplier", "key_multiplier",
                          "lm_head_multiplier", "ssm_in_multiplier", "ssm_out_multiplier"})
    keys.config[one] = 1.0;
  keys.config["ssm_multipliers"] = {1.0, 1.0, 1.0, 1.0, 1.0};
  keys.config["mlp_multipliers"] = {1.0, 1.0};
}

void nemotron_h_keys(GgufKeys& keys) {
  const std::vector<uint64_t> inner = gguf_layer_sizes(keys.file, "feed_forward_length", keys.layers);
  const std::vector<bool> attention = attention_layers(keys);
  std::string pattern;
  for (uint64_t layer = 0; layer < keys.layers; ++layer) {
    const std::string name = fmt::format("{}.{}.mixer.", keys.architecture.traits.layers, layer);
    pattern += attention[layer] ? '*' : keys.has(name + "A_log") ? 'M' : keys.has(name + "gate.weight") ? 'E' : '-';
  }
  keys.config["hybrid_override_pattern"] = pattern;
  keys.config["mlp_hidden_act"] = "relu2";
  if (const TensorInfo* up = keys.first("mixer.up_proj.weight")) keys.config["intermediate_size"] = up->shape[0];
  mamba(keys, "mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel");
  keys.config["expand"] = 2;
  keys.config["use_conv_bias"] = keys.has_in_layers("mixer.conv1d.bias");
  keys.config["use_bias"] = keys.config["mamba_proj_bias"] = keys.has_in_layers("mixer.in_proj.bias");
  keys.config["attention_bias"] = keys.has_in_layers("mixer.q_proj.bias");
  keys.config["mlp_bias"] = keys.has_in_layers("mixer.down_proj.bias");
  if (keys.size("expert_count").value_or(0) == 0) return;
  gguf_expert_sizes(keys, "n_routed_experts", "moe_intermediate_size");
  keys.config["n_shared_experts"] = keys.size("expert_shared_count").value_or(1);
  keys.copy_size("expert_shared_feed_forward_length", "moe_shared_expert_intermediate_size");
  keys.config["n_group"] = keys.size("expert_group_count").value_or(1);
  keys.config["topk_group"] = keys.size("expert_group_used_count").value_or(1);
  keys.config["routed_scaling_factor"] = keys.number("expert_weights_scale").value_or(1.0);
  keys.config["norm_topk_prob"] = keys.flag("expert_weights_norm").value_or(true);
}

// Full layers have heads of their own width and number, and turn a part of them (rope_freqs: 1, and for those that stand still a huge
// number).

}  // namespace loraine
