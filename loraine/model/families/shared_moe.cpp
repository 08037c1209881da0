// Families whose experts stand beside a shared MLP, often behind some dense layers: GLM-4.5, dots.llm1, ERNIE 4.5, Hunyuan, Llama 4.
#include "loraine/model/families/expert_parts.h"
#include "loraine/model/families/families.h"

namespace loraine {
namespace {

void add_head_norms(Decoder& d, const std::string& q = "q_norm", const std::string& k = "k_norm") {
  d.attention.q_norm = named(d.norm, q);
  d.attention.k_norm = named(d.norm, k);
}

int64_t count_or(const ConfigReader& hf, const char* key, int64_t otherwise) {
  return hf.get(key) ? static_cast<int64_t>(hf.number_or(key, 0)) : otherwise;
}

}  // namespace

ModelConfig glm4_moe_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.attention_biases(hf.flag_or("attention_bias", false), false);
  if (hf.flag_or("use_qk_norm", false)) add_head_norms(d);
  d.rope_keys.partial = 0.5;
  d.rope();
  ExpertsConfig experts = experts_config(hf, d);
  route_by_sigmoid(hf, experts);
  add_shared(experts, d.mlp, "mlp.shared_experts.", count_or(hf, "n_shared_experts", 1) * experts.intermediate_size);
  return with_experts(d, experts, dense_layers(hf, d));
}

ModelConfig dots1_config(const ConfigReader& hf) {
  Decoder d(hf);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  add_head_norms(d);
  d.rope();
  ExpertsConfig experts = experts_config(hf, d);
  route_by_sigmoid(hf, experts);
  if (const int64_t n = count_or(hf, "n_shared_experts", 0); n > 0)
    add_shared(experts, d.mlp, "mlp.shared_experts.", n * experts.intermediate_size);
  const std::vector<bool> sliding = d.sliding(0);
  const int64_t window = hf.get("sliding_window") ? hf.positive("sliding_window") : 0;
  const std::set<int64_t> dense = dense_layers(hf, d);
  const auto mlp = share(d.mlp);
  const auto sparse = share(experts);
  return d.with_layers([&](int64_t layer) {
    d.attention.window = sliding[static_cast<size_t>(layer)] ? window : 0;
    if (dense.contains(layer)) return d.pre_norm(d.attention, mlp);
    return d.pre_norm(d.attention, sparse);
  });
}

ModelConfig ernie4_5_moe_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  if (!hf.get("tie_word_embeddings")) d.config.tie_word_embeddings = true;
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.rope_keys.layout = RopeLayout::pairs;
  d.rope_keys.theta = 500000;
  d.rope();
  const bool bias = hf.flag_or("use_bias", false);
  d.attention_biases(bias, bias);
  d.mlp.bias = bias;
  d.config.head_bias = bias && !d.config.tie_word_embeddings;
  ExpertsConfig experts = experts_config(hf, d);
  experts.router.normalise = true;
  experts.router.floor_is = NormaliserFloor::least;
  experts.router.normaliser_floor = static_cast<float>(hf.number_or("moe_norm_min", 1e-12));
  experts.correction = "moe_statics.e_score_correction_bias";
  experts.correction_is_matrix = true;
  if (const int64_t n = count_or(hf, "moe_num_shared_experts", 2); n > 0)
    add_shared(experts, d.mlp, "mlp.shared_experts.", n * experts.intermediate_size);
  const int64_t layers = d.config.num_hidden_layers, start = count_or(hf, "moe_layer_start_index", 1),
                interval = hf.positive_or("moe_layer_interval", 1), end = count_or(hf, "moe_layer_end_index", -1),
                last = end < 0 ? layers - 1 : end;
  std::set<int64_t> dense;
  for (int64_t layer = 0; layer < layers; ++layer)
    if ((layer + 1) % interval != 0 || layer < start || layer > last) dense.insert(layer);
  return with_experts(d, experts, dense);
}

// Norms of heads after their rotation, and a router that is a layer of its own.
ModelConfig hunyuan_v1_moe_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.rope();
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  add_head_norms(d, "query_layernorm", "key_layernorm");
  d.attention.norm_after_rope = true;
  ExpertsConfig experts = experts_config(hf, d);
  experts.router.normalise = true;
  experts.router_name = "gate.wg";
  experts.router_is_linear = true;
  add_shared(experts, d.mlp, "mlp.shared_mlp.", d.mlp.intermediate_size);
  return with_experts(d, experts, {});
}

ModelConfig hy_v3_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.mlp.bias = hf.flag_or("mlp_bias", false);
  add_head_norms(d);
  d.rope();
  ExpertsConfig experts = experts_config(hf, d);
  route_by_sigmoid(hf, experts);
  experts.router.normalise = true;
  experts.router.scale = static_cast<float>(hf.number_or("router_scaling_factor", 1));
  experts.correction = "expert_bias";
  add_shared(experts, d.mlp, "mlp.shared_experts.", count_or(hf, "num_shared_experts", 1) * experts.intermediate_size);
  d.config.names.stored = {{{".mlp.gate", ".mlp.router.gate"}, {".mlp.shared_experts", ".mlp.shared_mlp"}}};
  return with_experts(d, experts, dense_layers(hf, d));
}

// Llama 4: layers that rotate see chunks and normalise q and k; the others see all and heat their queries. A token's one expert reads it
// times its weight.
ModelConfig llama4_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  const int64_t layers = d.config.num_hidden_layers;
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.rope_keys.layout = RopeLayout::pairs;
  d.rope_keys.theta = 500000;
  d.rope();
  ExpertsConfig experts = experts_config(hf, d);
  experts.intermediate_size = hf.positive("intermediate_size");
  experts.router.scores = RouterScores::sigmoid;
  experts.router.normalise = false;
  experts.weighs_input = experts.transposed = experts.a_gives_output = experts.whole_in_files = true;
  experts.folder = "feed_forward.";
  experts.router_name = "router";
  d.config.router_aux_loss_coef = 0;  // the key is there, and transformers computes no such loss
  add_shared(experts, d.mlp, "feed_forward.shared_expert.", experts.intermediate_size);
  d.mlp.folder = "feed_forward.";
  d.mlp.intermediate_size = hf.positive_or("intermediate_size_mlp", 16384);

  std::vector<double> rotated;
  if (hf.get("no_rope_layers")) rotated = hf.numbers("no_rope_layers");
  if (!rotated.empty() && static_cast<int64_t>(rotated.size()) != layers)
    hf.wrong("no_rope_layers", std::to_string(layers) + " numbers, one per layer");
  const int64_t interval = hf.positive_or("no_rope_layer_interval", 4), step = hf.positive_or("interleave_moe_layer_step", 1);
  std::set<int64_t> sparse;
  if (hf.get("moe_layers"))
    for (const double layer : hf.numbers("moe_layers")) sparse.insert(static_cast<int64_t>(layer));
  else
    for (int64_t layer = step - 1; layer < layers; layer += step) sparse.insert(layer);
  AttentionConfig turning = d.attention, still = d.attention;
  if (hf.flag_or("use_qk_norm", true)) turning.q_norm = turning.k_norm = weightless(named(d.norm, ""));
  turning.norm_after_rope = true;
  turning.chunk = hf.get("attention_chunk_size") ? hf.positive("attention_chunk_size") : 0;
  still.rope = nullptr;
  if (hf.get("attn_temperature_tuning") && *hf.get("attn_temperature_tuning") != false && *hf.get("attn_temperature_tuning") != 0) {
    still.temperature_beta = static_cast<float>(hf.number_or("attn_scale", 0.1));
    still.temperature_offset = 1;
    still.temperature_length = static_cast<int64_t>(hf.number_or("floor_scale", 8192));
  }
  const auto dense_mlp = share(d.mlp);
  const auto mixer = share(experts);
  return d.with_layers([&](int64_t layer) {
    const bool turns = rotated.empty() ? (layer + 1) % interval != 0 : rotated[static_cast<size_t>(layer)] != 0;
    if (sparse.contains(layer)) return d.pre_norm(turns ? turning : still, mixer);
    return d.pre_norm(turns ? turning : still, dense_mlp);
  });
}

}  // namespace loraine
