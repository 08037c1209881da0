// What config.json says of experts and their routers.
#include "loraine/io/gguf/gguf_keys.h"

namespace loraine {
namespace {

// DeepSeek's way: groups, a share that is scaled, experts that all see, layers without experts first.
void grouped(GgufKeys& keys) {
  gguf_expert_sizes(keys, "n_routed_experts", "moe_intermediate_size");
  keys.config["n_shared_experts"] = keys.size("expert_shared_count").value_or(0);
  keys.config["first_k_dense_replace"] = keys.size("leading_dense_block_count").value_or(0);
  keys.config["n_group"] = keys.size("expert_group_count").value_or(1);
  keys.config["topk_group"] = keys.size("expert_group_used_count").value_or(1);
  keys.config["routed_scaling_factor"] = keys.number("expert_weights_scale").value_or(1.0);
  keys.config["norm_topk_prob"] = keys.flag("expert_weights_norm").value_or(false);
}

// Layers that have the tensor.
Json layers_with(const GgufKeys& keys, const std::string& tensor) {
  Json layers = Json::array();
  for (uint64_t layer = 0; layer < keys.layers; ++layer)
    if (keys.has(std::string(keys.architecture.traits.layers) + "." + std::to_string(layer) + "." + tensor)) layers.push_back(layer);
  return layers;
}

}  // namespace

void gguf_expert_sizes(GgufKeys& keys, const char* experts, const char* width) {
  const auto count = keys.size("expert_count");
  if (!count || *count == 0) keys.refuse("has no expert_count");
  keys.config[experts] = *count;
  keys.copy_size("expert_used_count", "num_experts_per_tok");
  keys.copy_size("expert_feed_forward_length", width);
  if (!keys.config.contains(width))
    for (const char* gate : {"mlp.experts.0.gate_proj.weight", "block_sparse_moe.experts.0.w1.weight"})
      if (const TensorInfo* expert = keys.first(gate)) keys.config[width] = expert->shape[0];
}

void qwen2moe_keys(GgufKeys& keys) {
  qwen2_keys(keys);
  gguf_expert_sizes(keys, "num_experts", "moe_intermediate_size");
  keys.config["norm_topk_prob"] = keys.flag("expert_weights_norm").value_or(false);
  if (const TensorInfo* shared = keys.first("mlp.shared_expert.gate_proj.weight"))
    keys.config["shared_expert_intermediate_size"] = shared->shape[0];
  keys.config["mlp_only_layers"] = layers_with(keys, "mlp.gate_proj.weight");
  keys.config["decoder_sparse_step"] = 1;
}

// Every published file divides by the sum of the chosen; the key is newer than most of them.
void qwen3moe_keys(GgufKeys& keys) {
  qwen3_keys(keys);
  gguf_expert_sizes(keys, "num_experts", "moe_intermediate_size");
  keys.config["norm_topk_prob"] = keys.flag("expert_weights_norm").value_or(true);
  keys.config["mlp_only_layers"] = layers_with(keys, "mlp.gate_proj.weight");
  keys.config["decoder_sparse_step"] = 1;
}

void olmoe_keys(GgufKeys& keys) {
  gguf_expert_sizes(keys, "num_experts", "intermediate_size");
  keys.config["norm_topk_prob"] = keys.flag("expert_weights_norm").value_or(false);
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
}

void granitemoe_keys(GgufKeys& keys) {
  granite_keys(keys);
  gguf_expert_sizes(keys, "num_local_experts", "intermediate_size");
  if (const TensorInfo* experts = keys.first("block_sparse_moe.input_linear.weight"))
    keys.config["intermediate_size"] = experts->shape[1] / 2;
  if (const TensorInfo* shared = keys.first("shared_mlp.input_linear.weight")) {
    keys.set_type("granitemoeshared", "GraniteMoeSharedForCausalLM");
    keys.config["shared_intermediate_size"] = shared->shape[0] / 2;
  }
}

// block_count counts the layers that predict a second token too.
void glm4moe_keys(GgufKeys& keys) {
  grouped(keys);
  keys.config["norm_topk_prob"] = keys.flag("expert_weights_norm").value_or(true);
  const uint64_t extra = keys.size("nextn_predict_layers").value_or(0);
  if (extra >= keys.layers) keys.refuse("has more layers for a second token than layers");
  keys.config["num_hidden_layers"] = keys.layers - extra;
  keys.config["num_nextn_predict_layers"] = extra;
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
  keys.config["use_qk_norm"] = keys.has_in_layers("self_attn.q_norm.weight");
}

void dots1_keys(GgufKeys& keys) {
  grouped(keys);
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
}

void ernie4_5_moe_keys(GgufKeys& keys) {
  ernie4_5_keys(keys);
  gguf_expert_sizes(keys, "moe_num_experts", "moe_intermediate_size");
  keys.config["moe_k"] = keys.config["num_experts_per_tok"];
  keys.config.erase("num_experts_per_tok");
  keys.config["moe_num_shared_experts"] = keys.size("expert_shared_count").value_or(0);
  keys.config["moe_layer_interval"] = keys.size("interleave_moe_layer_step").value_or(1);
  keys.config["moe_layer_start_index"] = keys.size("leading_dense_block_count").value_or(0);
  keys.config["moe_layer_end_index"] = keys.layers - 1;
}

void hunyuan_moe_keys(GgufKeys& keys) {
  hunyuan_keys(keys);
  gguf_expert_sizes(keys, "num_experts", "moe_intermediate_size");
  keys.config["moe_topk"] = keys.config["num_experts_per_tok"];
  if (const TensorInfo* shared = keys.first("mlp.shared_mlp.gate_proj.weight"); shared && shared->shape[0] > 0)
    keys.config["num_shared_expert"] = 1;
}

void minimax_m2_keys(GgufKeys& keys) {
  gguf_expert_sizes(keys, "num_local_experts", "intermediate_size");
  keys.config["scoring_func"] = "sigmoid";
  keys.config["use_routing_bias"] = true;
  keys.config["use_qk_norm"] = true;
  keys.copy_size("rope.dimension_count", "rotary_dim");
}

void hy_v3_keys(GgufKeys& keys) {
  gguf_expert_sizes(keys, "num_experts", "moe_intermediate_size");
  keys.config["num_shared_experts"] = keys.has_in_layers("mlp.shared_mlp.gate_proj.weight") ? 1 : 0;
  keys.config["router_scaling_factor"] = keys.number("expert_weights_scale").value_or(1.0);
  const Json dense = layers_with(keys, "mlp.gate_proj.weight");
  keys.config["mlp_layer_types"] = Json(std::vector<std::string>(keys.layers, "sparse"));
  for (const auto& layer : dense) keys.config["mlp_layer_types"][layer.get<size_t>()] = "dense";
}

// The factors on cos and sin are one number in a GGUF.
void phimoe_keys(GgufKeys& keys) {
  gguf_expert_sizes(keys, "num_local_experts", "intermediate_size");
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
  keys.config["lm_head_bias"] = keys.has("lm_head.bias");
  const uint64_t window = keys.size("attention.sliding_window").value_or(0);
  keys.config["sliding_window"] = window > 0 ? Json(window) : Json();
  if (!keys.config.contains("rope_scaling") || keys.config["rope_scaling"]["rope_type"] != "longrope") return;
  Json& rope = keys.config["rope_scaling"];
  rope["short_mscale"] = rope["long_mscale"] = rope["attention_factor"];
  rope.erase("attention_factor");
  if (auto original = keys.size("rope.scaling.original_context_length")) rope["original_max_position_embeddings"] = *original;
}

// Every fourth layer sees all and does not turn; chunks and the heating of queries have the length of the published models. Those of 128
// experts do not normalise q and k. A window of 0 says that all layers see all.
void llama4_keys(GgufKeys& keys) {
  keys.config["intermediate_size_mlp"] = keys.config["intermediate_size"];
  gguf_expert_sizes(keys, "num_local_experts", "intermediate_size");
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
  keys.config["interleave_moe_layer_step"] = keys.size("interleave_moe_layer_step").value_or(1);
  keys.config["moe_layers"] = layers_with(keys, "feed_forward.router.weight");
  keys.config["use_qk_norm"] = keys.config["num_local_experts"] != 128;
  const bool all_full = keys.size("attention.sliding_window") == std::optional<uint64_t>(0);
  keys.config["no_rope_layers"] = Json::array();
  keys.config["layer_types"] = Json::array();
  for (uint64_t layer = 0; layer < keys.layers; ++layer) {
    const bool turns = all_full ? layer + 1 < keys.layers : (layer + 1) % 4 != 0;  // llama.cpp's rule
    keys.config["no_rope_layers"].push_back(turns ? 1 : 0);
    keys.config["layer_types"].push_back(turns && !all_full ? "chunked_attention" : "full_attention");
  }
  if (!all_full) keys.config["attention_chunk_size"] = 8192;
  keys.config["attn_temperature_tuning"] = !all_full;
  keys.config["attn_scale"] = 0.1;
  keys.config["floor_scale"] = 8192;
}

void gpt_oss_keys(GgufKeys& keys) {
  gguf_expert_sizes(keys, "num_local_experts", "intermediate_size");
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
  keys.config["swiglu_limit"] = 7.0;
  if (keys.config.contains("rope_scaling")) keys.config["rope_scaling"]["truncate"] = false;
  if (!keys.windows(2)) keys.refuse("has no attention.sliding_window");
}

void gguf_latent_sizes(GgufKeys& keys) {
  keys.config["num_key_value_heads"] = keys.heads;
  keys.config.erase("head_dim");
  keys.config.erase("partial_rotary_factor");
  const auto whole = keys.size("attention.key_length_mla") ? keys.size("attention.key_length_mla") : keys.size("attention.key_length");
  const auto values =
      keys.size("attention.value_length_mla") ? keys.size("attention.value_length_mla") : keys.size("attention.value_length");
  const auto rotated = keys.size("rope.dimension_count"), rank = keys.size("attention.kv_lora_rank");
  if (!whole || !values || !rotated || !rank || *rotated >= *whole)
    keys.refuse("lacks one of attention.key_length_mla, attention.value_length_mla, rope.dimension_count and attention.kv_lora_rank");
  keys.config["qk_rope_head_dim"] = *rotated;
  keys.config["qk_nope_head_dim"] = *whole - *rotated;
  keys.config["v_head_dim"] = *values;
  keys.config["kv_lora_rank"] = *rank;
  keys.config["q_lora_rank"] = nullptr;
  keys.copy_size("attention.q_lora_rank", "q_lora_rank");
}

// DeepSeek V2 and V3, Kimi K2, GLM-4.7-Flash: V3 is known by the correction of its router's scores, or by having no experts at all.
void deepseek2_keys(GgufKeys& keys) {
  gguf_latent_sizes(keys);
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_a_proj.bias");
  const bool experts = keys.size("expert_count").value_or(0) > 0;
  if (experts) grouped(keys);
  else keys.config["first_k_dense_replace"] = keys.layers;
  const bool corrected = keys.has_in_layers("mlp.gate.e_score_correction_bias");
  keys.config["rope_interleave"] = true;
  if (experts && !corrected) {
    keys.set_type("deepseek_v2", "DeepseekV2ForCausalLM");
    keys.config["topk_method"] = keys.size("expert_group_count").value_or(1) > 1 ? "group_limited_greedy" : "greedy";
  }
  if (keys.config.contains("rope_scaling"))
    if (auto multiplier = keys.number("rope.scaling.yarn_log_multiplier"); multiplier && *multiplier != 0)
      keys.config["rope_scaling"]["mscale"] = keys.config["rope_scaling"]["mscale_all_dim"] = *multiplier * 10;
}

// Mistral Small 4: DeepSeek's shape, and softmax over all experts. The growth of queries is there where the file's writer kept it.
void mistral4_keys(GgufKeys& keys) {
  deepseek2_keys(keys);
  keys.set_type("mistral4", "Mistral4ForCausalLM");
  keys.config.erase("topk_method");
  keys.config["norm_topk_prob"] = keys.flag("expert_weights_norm").value_or(true);
  const auto beta = keys.number("attention.temperature_scale");
  if (!beta || *beta == 0) return;
  if (!keys.config.contains("rope_scaling") || !keys.config["rope_scaling"].contains("original_max_position_embeddings"))
    keys.refuse("has attention.temperature_scale without rope.scaling.original_context_length");
  keys.config["rope_scaling"]["llama_4_scaling_beta"] = *beta;
}

// Factors are those of the published model, which llama.cpp has in its code; the width of values follows from kv_b.
void minicpm3_keys(GgufKeys& keys) {
  const auto rotated = keys.size("rope.dimension_count"), rank = keys.size("attention.kv_lora_rank");
  const TensorInfo* kv_b = keys.first("self_attn.kv_b_proj.weight");
  if (!rotated || !rank || !kv_b || *rotated >= keys.head_dim)
    keys.refuse("lacks one of attention.key_length, rope.dimension_count, attention.kv_lora_rank and blk.0.attn_kv_b.weight");
  const uint64_t nope = keys.head_dim - *rotated, rows = static_cast<uint64_t>(kv_b->shape[0]);
  if (rows % keys.heads != 0 || rows / keys.heads <= nope)
    keys.refuse("blk.0.attn_kv_b.weight has " + std::to_string(rows) + " rows, expected those of keys and values of " +
                std::to_string(keys.heads) + " heads");
  keys.config["num_key_value_heads"] = keys.heads;
  keys.config.erase("head_dim");
  keys.config.erase("partial_rotary_factor");
  keys.config["qk_rope_head_dim"] = *rotated;
  keys.config["qk_nope_head_dim"] = nope;
  keys.config["v_head_dim"] = rows / keys.heads - nope;
  keys.config["kv_lora_rank"] = *rank;
  keys.config["q_lora_rank"] = nullptr;
  keys.copy_size("attention.q_lora_rank", "q_lora_rank");
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_a_proj.bias");
  keys.config["mlp_bias"] = keys.has_in_layers("mlp.down_proj.bias");
  keys.config["scale_emb"] = 12;
  keys.config["scale_depth"] = 1.4;
  keys.config["dim_model_base"] = 256;
  if (keys.config.contains("rope_scaling") && keys.config["rope_scaling"]["rope_type"] == "longrope")
    keys.config["rope_scaling"]["original_max_position_embeddings"] =
        keys.size("rope.scaling.original_context_length").value_or(keys.config["max_position_embeddings"].get<uint64_t>());
}

}  // namespace loraine
