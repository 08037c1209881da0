// Gemma 4: Gemma's four norms, without the 1 added to their weights, and a factor at the end of each layer; norms over heads of q, k and v;
// full layers with heads of their own size, whose values may be their keys; the last layers attend to keys and values of earlier ones;
// inputs per layer (E2B, E4B); experts beside the MLP (26B-A4B).
#include <cmath>
#include <optional>

#include "loraine/model/families/expert_parts.h"
#include "loraine/model/families/families.h"
#include "loraine/model/families/gemma_parts.h"
#include "loraine/model/mixers/mlp_and_experts.h"

namespace loraine {
namespace {

// A layer's own value of `key`: per_layer_config has objects by the number of the layer, with or without zeros before it.
const nlohmann::json* of_layer(const ConfigReader& hf, int64_t layer, const char* key) {
  const nlohmann::json* all = hf.get("per_layer_config");
  if (!all) return nullptr;
  if (!all->is_object()) hf.wrong("per_layer_config", "an object of objects by layer");
  for (const auto& [number, values] : all->items()) {
    const size_t digits = std::min(number.find_first_not_of('0'), number.empty() ? 0 : number.size() - 1);
    if (number.substr(digits) != std::to_string(layer)) continue;
    if (!values.is_object()) hf.wrong("per_layer_config", "an object of objects by layer");
    const auto found = values.find(key);
    return found == values.end() || found->is_null() ? nullptr : &*found;
  }
  return nullptr;
}

int64_t size_of_layer(const ConfigReader& hf, int64_t layer, const char* key, int64_t otherwise) {
  const nlohmann::json* own = of_layer(hf, layer, key);
  if (!own) return otherwise;
  const nlohmann::json one = {{key, *own}};
  return ConfigReader(one, hf.file() + ": per_layer_config: " + std::to_string(layer)).positive(key);
}

// The layer's MLP with the experts beside it.
MlpAndExpertsConfig with_experts_beside(const Decoder& d, const ExpertsConfig& experts, const MlpConfig& mlp) {
  MlpAndExpertsConfig both;
  both.mlp = mlp;
  both.experts = experts;
  both.before_mlp = named(d.norm, "pre_feedforward_layernorm");
  both.after_mlp = named(d.norm, "post_feedforward_layernorm_1");
  both.before_experts = named(d.norm, "pre_feedforward_layernorm_2");
  both.after_experts = named(d.norm, "post_feedforward_layernorm_2");
  both.router_norm = d.norm;
  return both;
}

ExpertsConfig gemma4_experts(const ConfigReader& hf, Decoder& d) {
  ExpertsConfig experts = experts_config(hf, d);
  d.config.router_aux_loss_coef = 0;  // it has no such loss
  experts.router.normalise = true;
  experts.router_is_linear = experts.whole_in_files = true;
  experts.folder = "";
  experts.router_name = "router.proj";
  experts.expert_scale = "router.per_expert_scale";
  return experts;
}

}  // namespace

ModelConfig gemma4_config(const ConfigReader& hf) {
  Decoder d(hf);
  if (!hf.get("tie_word_embeddings")) d.config.tie_word_embeddings = true;
  if (const std::string seen = hf.text_or("use_bidirectional_attention", ""); !seen.empty() && seen != "vision")
    hf.wrong("use_bidirectional_attention", "null or vision");
  const int64_t H = d.config.hidden_size;
  d.config.embedding_scale = std::sqrt(static_cast<float>(H));
  if (hf.get("final_logit_softcapping")) d.config.logit_softcap = static_cast<float>(hf.number_or("final_logit_softcapping", 0));
  d.mlp.activation = activation(hf, "hidden_activation", "gelu_pytorch_tanh");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.attention.scale = 1;
  d.attention.q_norm = named(d.norm, "q_norm");
  d.attention.k_norm = named(d.norm, "k_norm");
  d.attention.v_norm = weightless(d.norm);

  std::vector<bool> sliding = d.sliding(6);
  if (!hf.get("layer_types")) sliding.back() = false;
  const int64_t window = hf.positive_or("sliding_window", 512);
  const int64_t full_dim = hf.get("global_head_dim") ? hf.positive("global_head_dim") : d.attention.head_dim;
  const bool k_is_v = hf.flag_or("attention_k_eq_v", false);
  const int64_t full_kv_heads =
      k_is_v && hf.get("num_global_key_value_heads") ? hf.positive("num_global_key_value_heads") : d.attention.kv_heads;
  const KvSharing shared = kv_sharing(hf, sliding, 0);
  const bool wide = hf.flag_or("use_double_wide_mlp", false);
  const int64_t p = hf.get("hidden_size_per_layer_input") ? static_cast<int64_t>(hf.number_or("hidden_size_per_layer_input", 0)) : 0;
  const PerLayerInputsConfig inputs = per_layer_inputs_config(d, p, d.config.vocab_size);
  if (p > 0 && inputs.vocab_size < d.config.vocab_size) hf.wrong("vocab_size_per_layer_input", "vocab_size or more");

  std::optional<ExpertsConfig> experts;
  if (hf.flag_or("enable_moe_block", false)) experts = gemma4_experts(hf, d);

  return d.with_layers([&](int64_t layer) {
    const auto i = static_cast<size_t>(layer);
    const bool slides = sliding[i];
    AttentionConfig attention = d.attention;
    attention.window = slides ? window : 0;
    attention.head_dim = size_of_layer(hf, layer, "head_dim", slides ? d.attention.head_dim : full_dim);
    attention.kv_heads = size_of_layer(hf, layer, "num_key_value_heads", slides ? d.attention.kv_heads : full_kv_heads);
    if (attention.head_dim % 2) hf.wrong("head_dim", "an even number on every layer");
    if (attention.heads % attention.kv_heads) hf.wrong("num_key_value_heads", "a divisor of num_attention_heads on every layer");
    if (k_is_v && !slides) attention.v = "";
    RopeKeys keys = d.rope_keys;
    keys.head_dim = attention.head_dim;
    keys.layer_type = slides ? "sliding_attention" : "full_attention";
    keys.theta = slides ? 10000 : 1000000;
    attention.rope = read_rope(hf, keys);
    attention.shared_kv = shared.kind[i];
    attention.kv_layer = shared.giver[i];
    attention.kv_branch = p > 0 && attention.kv_layer == 0 ? 1 : 0;
    MlpConfig mlp = d.mlp;
    mlp.intermediate_size = size_of_layer(hf, layer, "intermediate_size", (wide && layer >= shared.first ? 2 : 1) * mlp.intermediate_size);

    LayerConfig out = d.sandwich(attention, share(mlp));
    out.scalar = "layer_scalar";
    if (experts) out.branches.back() = {{}, named(d.norm, "post_feedforward_layernorm"), share(with_experts_beside(d, *experts, mlp))};
    if (p == 0) return out;
    if (layer == 0) out.branches.insert(out.branches.begin(), {{}, {}, share(inputs)});
    PerLayerInputConfig input;
    input.hidden_size = H;
    input.width = p;
    input.layer = layer;
    out.branches.push_back({{}, named(d.norm, "post_per_layer_input_norm"), share(input)});
    return out;
  });
}

}  // namespace loraine
