// Families whose layers have experts alone, or beside one shared MLP: Qwen 2 and 3, Mixtral, OLMoE, Phi 3.5, MiniMax M2, gpt-oss.
#include "loraine/model/families/expert_parts.h"
#include "loraine/model/families/families.h"

namespace loraine {
namespace {

ModelConfig qwen_layers(Decoder& d, const ExpertsConfig& experts) {
  d.rope();
  std::vector<int64_t> windows(static_cast<size_t>(d.config.num_hidden_layers), 0);
  if (d.hf.flag_or("use_sliding_window", false)) windows = d.windows(d.hf.positive_or("max_window_layers", 28));
  const std::set<int64_t> dense = qwen_dense_layers(d);
  const auto mlp = share(d.mlp);
  const auto sparse = share(experts);
  return d.with_layers([&](int64_t layer) {
    d.attention.window = windows[static_cast<size_t>(layer)];
    if (dense.contains(layer)) return d.pre_norm(d.attention, mlp);
    return d.pre_norm(d.attention, sparse);
  });
}

void add_qk_norms(Decoder& d, HeadNorms norms) {
  d.attention.head_norms = norms;
  d.attention.q_norm = named(d.norm, "q_norm");
  d.attention.k_norm = named(d.norm, "k_norm");
}

}  // namespace

ModelConfig qwen2_moe_config(const ConfigReader& hf) {
  Decoder d(hf);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.attention_biases(hf.flag_or("qkv_bias", true), false);
  ExpertsConfig experts = experts_config(hf, d);
  add_shared(experts, d.mlp, "mlp.shared_expert.", hf.positive("shared_expert_intermediate_size"));
  experts.shared_gate = "shared_expert_gate";
  return qwen_layers(d, experts);
}

ModelConfig qwen3_moe_config(const ConfigReader& hf) {
  Decoder d(hf);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  add_qk_norms(d, HeadNorms::shared);
  return qwen_layers(d, experts_config(hf, d));
}

// Its files have the experts' parameters whole and transposed; adapters see them as Qwen 3's.
ModelConfig qwen3_vl_moe_config(const ConfigReader& hf) {
  Decoder d(hf);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.rope_keys.theta = 500000;
  add_qk_norms(d, HeadNorms::shared);
  ExpertsConfig experts = experts_config(hf, d);
  experts.router.normalise = experts.transposed = experts.whole_in_files = true;
  return qwen_layers(d, experts);
}

ModelConfig mixtral_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.rope_keys.theta = 1000000;
  d.rope();
  if (hf.get("sliding_window")) d.attention.window = hf.positive("sliding_window");
  ExpertsConfig experts = experts_config(hf, d);
  experts.router.normalise = true;
  name_w1_w2_w3(experts);
  name_block_sparse(d.config);
  return with_experts(d, experts, {});
}

ModelConfig olmoe_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  add_qk_norms(d, HeadNorms::whole);
  if (hf.get("clip_qkv")) d.attention.clip = static_cast<float>(hf.number_or("clip_qkv", 0));
  d.rope();
  return with_experts(d, experts_config(hf, d), {});
}

// Phi-3.5-MoE: LayerNorms with biases, and the sparse mixer. Training routes as evaluation does: without its random numbers.
ModelConfig phimoe_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.norm = layer_norm_config("", d.norm.eps, true);
  d.config.final_norm = named(d.norm, "norm");
  d.config.head_bias = hf.flag_or("lm_head_bias", false);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.rope_keys.theta = 1000000;
  d.rope();
  if (hf.get("sliding_window")) d.attention.window = hf.positive("sliding_window");
  ExpertsConfig experts = experts_config(hf, d);
  experts.router.scores = RouterScores::sparse_mixer;
  experts.router.normalise = false;
  experts.router.jitter = static_cast<float>(hf.number_or("router_jitter_noise", 0.01));
  experts.router_name = "router";
  name_w1_w2_w3(experts);
  d.config.names.stored = {{{".mlp.router", ".block_sparse_moe.gate"}, {".mlp", ".block_sparse_moe"}}};
  return with_experts(d, experts, {});
}

ModelConfig minimax_m2_config(const ConfigReader& hf) {
  Decoder d(hf);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  add_qk_norms(d, HeadNorms::whole);
  d.rope_keys.theta = 5000000;
  if (hf.get("rotary_dim"))
    d.rope_keys.partial = static_cast<double>(hf.positive("rotary_dim")) / static_cast<double>(d.attention.head_dim);
  d.rope();
  ExpertsConfig experts = experts_config(hf, d);
  route_by_sigmoid(hf, experts);
  experts.router.normalise = true;
  experts.correction = "e_score_correction_bias";
  name_w1_w2_w3(experts);
  name_block_sparse(d.config);
  return with_experts(d, experts, {});
}

ModelConfig gpt_oss_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  const bool bias = hf.flag_or("attention_bias", true);
  d.attention_biases(bias, bias);
  d.attention.sinks = true;
  d.rope_keys.theta = 150000;
  d.rope();
  ExpertsConfig experts = experts_config(hf, d);
  experts.router.scores = RouterScores::chosen_softmax;
  experts.router.normalise = false;
  experts.router_name = "router";
  experts.router_bias = experts.biases = experts.transposed = experts.whole_in_files = true;
  experts.clamped =
      ClampedSwiglu{static_cast<float>(hf.number_or("swiglu_limit", 7)), static_cast<float>(hf.number_or("swiglu_alpha", 1.702)), true};
  const std::vector<bool> sliding = d.sliding(2);
  const int64_t window = hf.positive_or("sliding_window", 128);
  const auto mixer = share(experts);
  return d.with_layers([&](int64_t layer) {
    d.attention.window = sliding[static_cast<size_t>(layer)] ? window : 0;
    return d.pre_norm(d.attention, mixer);
  });
}

}  // namespace loraine
