// OLMo 1: LayerNorms without weights, clipped projections. OLMo 2 and 3, EXAONE 4: norms only after each mixer, and over q and k.
// OLMo Hybrid: such layers, and gated delta nets between norms before.
#include "loraine/model/families/families.h"
#include "loraine/model/families/hybrid.h"
#include "loraine/model/mixers/gated_delta_net.h"

namespace loraine {
namespace {

LayerConfig post_norm(const Decoder& d, const AttentionConfig& attention) {
  return {
      {{{}, named(d.norm, "post_attention_layernorm"), share(attention)}, {{}, named(d.norm, "post_feedforward_layernorm"), share(d.mlp)}}};
}

}  // namespace

ModelConfig olmo_config(const ConfigReader& hf) {
  Decoder d(hf);
  d.norm = weightless(layer_norm_config("", 1e-5, false));
  d.config.final_norm = named(d.norm, "norm");
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  if (hf.get("clip_qkv")) d.attention.clip = static_cast<float>(hf.number_or("clip_qkv", 0));
  d.rope();
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

ModelConfig olmo2_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.attention.head_norms = HeadNorms::whole;
  d.attention.q_norm = named(d.norm, "q_norm");
  d.attention.k_norm = named(d.norm, "k_norm");
  const bool windows = hf.text_or("model_type", "") == "olmo3";
  const std::vector<bool> sliding = d.sliding(windows ? 4 : 0);
  const int64_t window = windows ? hf.positive_or("sliding_window", 4096) : 0;
  const auto full = d.rope_of("full_attention");
  auto local = full;
  if (windows && rope_object(hf).get("sliding_attention")) {
    local = d.rope_of("sliding_attention");
  } else if (windows) {  // older files: the scaling is the full layers' alone
    const nlohmann::json only_theta = {{"rope_theta", hf.number_or("rope_theta", 500000)}};
    local = read_rope(ConfigReader(only_theta, hf.file()), d.rope_keys);
  }
  return d.with_layers([&](int64_t layer) {
    const bool slides = sliding[static_cast<size_t>(layer)];
    d.attention.window = slides ? window : 0;
    d.attention.rope = slides ? local : full;
    return post_norm(d, d.attention);
  });
}

ModelConfig olmo_hybrid_config(const ConfigReader& hf) {
  Decoder d(hf);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.attention.head_norms = HeadNorms::whole;
  d.attention.q_norm = named(d.norm, "q_norm");
  d.attention.k_norm = named(d.norm, "k_norm");
  if (hf.get("rope_parameters") || hf.get("rope_theta")) d.rope();
  GatedDeltaNetConfig delta;
  delta.hidden_size = d.config.hidden_size;
  delta.projections = DeltaProjections::separate;
  delta.key_heads = hf.positive("linear_num_key_heads");
  delta.value_heads = hf.positive("linear_num_value_heads");
  if (delta.value_heads % delta.key_heads) hf.wrong("linear_num_value_heads", "a multiple of linear_num_key_heads");
  delta.key_dim = hf.positive("linear_key_head_dim");
  delta.value_dim = hf.positive("linear_value_head_dim");
  delta.taps = hf.positive_or("linear_conv_kernel_dim", 4);
  delta.largest_beta = hf.flag_or("linear_allow_neg_eigval", true) ? 2 : 1;
  delta.norm_eps = 1e-5f;  // whatever the other norms have
  delta.norm = "o_norm";
  delta.output = "o_proj";
  const std::vector<bool> linear = recurrent_layers(d, {"linear_attention"}, [](int64_t layer) { return (layer + 1) % 4 != 0; });
  return d.with_layers([&](int64_t layer) -> LayerConfig {
    if (!linear[static_cast<size_t>(layer)]) return post_norm(d, d.attention);
    return {{{named(d.norm, "attention_layer_norm"), {}, share(delta)}, {named(d.norm, "feedforward_layer_norm"), {}, share(d.mlp)}}};
  });
}

ModelConfig exaone4_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.attention.q_norm = named(d.norm, "q_norm");
  d.attention.k_norm = named(d.norm, "k_norm");
  d.rope();
  const int64_t window = hf.get("sliding_window") ? hf.positive("sliding_window") : 0;
  int64_t pattern = 4;
  if (const nlohmann::json* given = hf.get("sliding_window_pattern"))  // a number, or "LLLG"
    pattern = given->is_string() ? static_cast<int64_t>(given->get<std::string>().size()) : hf.positive("sliding_window_pattern");
  const std::vector<bool> sliding = d.sliding(window > 0 ? pattern : 0);
  return d.with_layers([&](int64_t layer) {
    AttentionConfig attention = d.attention;
    const bool slides = sliding[static_cast<size_t>(layer)];
    attention.window = slides ? window : 0;
    if (window > 0 && !slides) attention.rope = nullptr;  // full layers do not turn, where others slide
    return post_norm(d, attention);
  });
}

}  // namespace loraine
