// What config.json says of an architecture beyond the common keys. Where a GGUF says less than config.json, llama.cpp's own rule stands.
#include <fmt/format.h>

#include <cmath>

#include "loraine/io/gguf/gguf_keys.h"

namespace loraine {
namespace {

// attention_bias and mlp_bias by the tensors that are there.
void biases(GgufKeys& keys) {
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
  keys.config["mlp_bias"] = keys.has_in_layers("mlp.down_proj.bias");
}

void granite_scales(GgufKeys& keys) {
  keys.copy_number("attention.scale", "attention_multiplier");
  keys.copy_number("embedding_scale", "embedding_multiplier");
  keys.copy_number("residual_scale", "residual_multiplier");
  keys.copy_number("logit_scale", "logits_scaling");
  biases(keys);
  keys.config["position_embedding_type"] = "rope";
}

// The softmax scale of Gemma 2 and 3, by llama.cpp's rule: 27B divides by hidden_size / heads, the others by head_dim.
void gemma_scale(GgufKeys& keys, uint64_t layers_of_27b) {
  keys.config["query_pre_attn_scalar"] = keys.layers == layers_of_27b ? keys.hidden / keys.heads : keys.head_dim;
  keys.copy_number("final_logit_softcapping", "final_logit_softcapping");
}

}  // namespace

void llama_keys(GgufKeys& keys) {
  const bool q_bias = keys.has_in_layers("self_attn.q_proj.bias"), o_bias = keys.has_in_layers("self_attn.o_proj.bias");
  const uint64_t window = keys.size("attention.sliding_window").value_or(0), experts = keys.size("expert_count").value_or(0);
  if (experts > 0) {
    keys.set_type("mixtral", "MixtralForCausalLM");
    keys.config["num_local_experts"] = experts;
    keys.copy_size("expert_used_count", "num_experts_per_tok");
    keys.config["sliding_window"] = window > 0 ? Json(window) : Json();
    if (const TensorInfo* expert = keys.first("block_sparse_moe.experts.0.w1.weight")) keys.config["intermediate_size"] = expert->shape[0];
    return;
  }
  if (window > 0) {
    keys.set_type("mistral", "MistralForCausalLM");
    keys.config["sliding_window"] = window;
    return;
  }
  if (q_bias && !o_bias) {
    keys.set_type("internlm3", "InternLM3ForCausalLM");
    keys.config["qkv_bias"] = true;
    keys.config["bias"] = false;
    return;
  }
  keys.config["attention_bias"] = q_bias;
  keys.config["mlp_bias"] = keys.has_in_layers("mlp.gate_proj.bias");
}

void mistral3_keys(GgufKeys& keys) {
  const uint64_t window = keys.size("attention.sliding_window").value_or(0);
  keys.config["sliding_window"] = window > 0 ? Json(window) : Json();
  const auto beta = keys.number("attention.temperature_scale");
  if (!beta || *beta == 0) return;
  keys.set_type("ministral3", "Ministral3ForCausalLM");
  Json rope = keys.config.value("rope_scaling", Json::object());
  if (!rope.contains("original_max_position_embeddings"))
    keys.refuse("has attention.temperature_scale without rope.scaling.original_context_length");
  if (auto multiplier = keys.number("rope.scaling.yarn_log_multiplier"); multiplier && *multiplier != 0) {
    rope["mscale"] = 1.0;
    rope["mscale_all_dim"] = *multiplier;
  }
  rope["llama_4_scaling_beta"] = *beta;
  rope["rope_theta"] = keys.theta;
  keys.config.erase("rope_scaling");
  keys.config["rope_parameters"] = rope;
}

void qwen2_keys(GgufKeys& keys) { keys.config["use_sliding_window"] = false; }

void qwen3_keys(GgufKeys& keys) {
  keys.config["use_sliding_window"] = false;
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
}

void gemma_keys(GgufKeys& keys) {
  keys.config["hidden_act"] = "gelu_pytorch_tanh";
  keys.config["hidden_activation"] = "gelu_pytorch_tanh";
}

void gemma2_keys(GgufKeys& keys) {
  gemma_keys(keys);
  gemma_scale(keys, 46);
  keys.copy_number("attn_logit_softcapping", "attn_logit_softcapping");
  if (!keys.size("attention.sliding_window")) keys.config["sliding_window"] = 4096;
  keys.windows(2);
}

void gemma3_keys(GgufKeys& keys) {
  gemma_keys(keys);
  gemma_scale(keys, 62);
  if (!keys.number("rope.freq_base")) keys.config["rope_theta"] = 1000000.0;
  keys.config["rope_local_base_freq"] = keys.number("rope.freq_base_swa").value_or(10000.0);
  if (!keys.windows(6)) keys.config["layer_types"] = Json(std::vector<std::string>(keys.layers, "full_attention"));
}

void phi3_keys(GgufKeys& keys) {
  keys.copy_size("rope.scaling.original_context_length", "original_max_position_embeddings");
  const uint64_t window = keys.size("attention.sliding_window").value_or(0);
  keys.config["sliding_window"] = window > 0 ? Json(window) : Json();
}

void phi2_keys(GgufKeys& keys) {
  keys.config["hidden_act"] = "gelu_new";
  if (const TensorInfo* up = keys.first("mlp.fc1.weight")) keys.config["intermediate_size"] = up->shape[0];
  keys.config["qk_layernorm"] = false;
}

void granite_keys(GgufKeys& keys) { granite_scales(keys); }

// Layers without rotation are marked in attention.rope_pattern; thetas that differ between layers are not in a GGUF.
void granite_swa_keys(GgufKeys& keys) {
  granite_scales(keys);
  keys.config.erase("position_embedding_type");
  if (!keys.windows(4)) keys.refuse("has no attention.sliding_window");
  const std::vector<int64_t> rotates = keys.file.integers(std::string(keys.architecture.name) + ".attention.rope_pattern");
  keys.config["layer_rope_theta"] = Json::array();
  for (uint64_t layer = 0; layer < keys.layers; ++layer)
    keys.config["layer_rope_theta"].push_back(layer < rotates.size() && rotates[layer] == 0 ? 0.0 : keys.theta);
}

void olmo_keys(GgufKeys& keys) {
  keys.config.erase("layer_norm_eps");
  keys.copy_number("attention.clamp_kqv", "clip_qkv");
  biases(keys);
}

// With a window: OLMo 3, whose full layers alone are scaled.
void olmo2_keys(GgufKeys& keys) {
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
  if (!keys.windows(4)) return;
  keys.set_type("olmo3", "Olmo3ForCausalLM");
  if (auto local = keys.number("rope.freq_base_swa"); local && *local != keys.theta)
    keys.refuse("windows with a rope theta of their own are not supported");
}

void smollm3_keys(GgufKeys& keys) {
  biases(keys);
  keys.config["use_sliding_window"] = false;
  keys.config["no_rope_layers"] = Json::array();  // every fourth layer does not turn
  for (uint64_t layer = 0; layer < keys.layers; ++layer) keys.config["no_rope_layers"].push_back((layer + 1) % 4 != 0 ? 1 : 0);
}

void command_r_keys(GgufKeys& keys) {
  keys.copy_number("logit_scale", "logit_scale");
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
  keys.config["use_qk_norm"] = keys.has_in_layers("self_attn.q_norm.weight");
}

void cohere2_keys(GgufKeys& keys) {
  keys.copy_number("logit_scale", "logit_scale");
  keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
  if (!keys.windows(4)) keys.refuse("has no attention.sliding_window");
}

void glm4_keys(GgufKeys& keys) { keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias"); }

void ernie4_5_keys(GgufKeys& keys) { keys.config["use_bias"] = keys.has_in_layers("self_attn.q_proj.bias"); }

void hunyuan_keys(GgufKeys& keys) { keys.config["attention_bias"] = keys.has_in_layers("self_attn.q_proj.bias"); }

void seed_oss_keys(GgufKeys& keys) {
  biases(keys);
  keys.config["attention_out_bias"] = keys.has_in_layers("self_attn.o_proj.bias");
  keys.config["residual_dropout"] = 0.1;  // the family's own; not in a GGUF
}

void exaone4_keys(GgufKeys& keys) {
  if (!keys.windows(4)) keys.config["layer_types"] = Json(std::vector<std::string>(keys.layers, "full_attention"));
  keys.config["sliding_window_pattern"] = 4;
  if (!keys.config.contains("sliding_window")) keys.config["sliding_window"] = nullptr;
}

void starcoder2_keys(GgufKeys& keys) {
  keys.config["hidden_act"] = "gelu_pytorch_tanh";
  keys.config["use_bias"] = keys.has_in_layers("mlp.c_fc.bias");
  keys.config["sliding_window"] = nullptr;
  keys.copy_size("attention.sliding_window", "sliding_window");
}

void stablelm_keys(GgufKeys& keys) {
  keys.config["use_qkv_bias"] = keys.has_in_layers("self_attn.q_proj.bias");
  keys.config["qk_layernorm"] = keys.has_in_layers("self_attn.q_layernorm.norms.0.weight");
  keys.config["use_parallel_residual"] = !keys.has_in_layers("post_attention_layernorm.weight");
}

void nemotron_keys(GgufKeys& keys) {
  keys.config["hidden_act"] = "relu2";
  biases(keys);
}

void apertus_keys(GgufKeys& keys) {
  keys.config["hidden_act"] = "xielu";
  biases(keys);
  for (const float beta : keys.file.floats("xielu.beta"))
    if (std::fabs(beta - 0.5f) > 1e-4f) keys.refuse(fmt::format("xielu.beta is {}, expected 0.5", beta));
}

void arcee_keys(GgufKeys& keys) {
  keys.config["hidden_act"] = "relu2";
  biases(keys);
}

void gptneox_keys(GgufKeys& keys) {
  keys.config["hidden_act"] = "gelu";
  keys.config["rotary_pct"] = keys.config.value("partial_rotary_factor", 1.0);
  keys.config["rotary_emb_base"] = keys.theta;
  keys.config["attention_bias"] = keys.has_in_layers("attention.query_key_value.bias");
  keys.config["use_parallel_residual"] = keys.flag("use_parallel_residual").value_or(true);
}

// q and k are normalised without weights; the factor on q stands in the file as the weights of a norm of q, ones as those of k.
void muse_glimmer_keys(GgufKeys& keys) {
  keys.set_type("muse_glimmer_text", "MuseGlimmerForCausalLM");
  keys.config["hidden_activation"] = "silu";
  keys.copy_number("final_logit_softcapping", "final_logit_softcapping");
  keys.copy_number("logit_scale", "output_multiplier");
  if (!keys.windows(4)) keys.refuse("has no attention.sliding_window");
  keys.config["layer_rope_theta"] = Json::array();  // full layers do not turn
  for (const auto& type : keys.config["layer_types"])
    keys.config["layer_rope_theta"].push_back(type == "sliding_attention" ? keys.theta : 0.0);
  for (const GgufTensor& tensor : keys.file.tensors) {
    if (tensor.name != "blk.0.attn_q_norm.weight" || tensor.type != 0) continue;
    float factor = 0;
    std::copy_n(keys.file.file.data() + tensor.offset, sizeof factor, reinterpret_cast<unsigned char*>(&factor));
    keys.config["qk_scale_factor"] = factor;
  }
}

}  // namespace loraine
