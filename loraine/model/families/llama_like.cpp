// Families that are Llama but for a word or two.
#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/families.h"

namespace loraine {

// SmolLM3: no rotation on every fourth layer (no_rope_layers[i] is 0).
ModelConfig smollm3_config(const ConfigReader& hf) {
  Decoder d(hf);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.rope_keys.theta = 2000000;
  d.rope();
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.mlp.bias = hf.flag_or("mlp_bias", false);
  std::vector<double> rotated;
  if (hf.get("no_rope_layers")) rotated = hf.numbers("no_rope_layers");
  if (!rotated.empty() && static_cast<int64_t>(rotated.size()) != d.config.num_hidden_layers)
    hf.wrong("no_rope_layers", std::to_string(d.config.num_hidden_layers) + " numbers, one per layer");
  const int64_t interval = hf.positive_or("no_rope_layer_interval", 4);
  std::vector<int64_t> windows(static_cast<size_t>(d.config.num_hidden_layers), 0);
  if (hf.flag_or("use_sliding_window", false)) windows = d.windows(0);
  return d.with_layers([&](int64_t layer) {
    AttentionConfig attention = d.attention;
    const bool turns = rotated.empty() ? (layer + 1) % interval != 0 : rotated[static_cast<size_t>(layer)] != 0;
    if (!turns) attention.rope = nullptr;
    attention.window = windows[static_cast<size_t>(layer)];
    return d.pre_norm(attention, share(d.mlp));
  });
}

// Arcee: squared ReLU without a gate.
ModelConfig arcee_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.gated = false;
  d.mlp.activation = activation(hf, "hidden_act", "relu2");
  d.rope();
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.mlp.bias = hf.flag_or("mlp_bias", false);
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

// Apertus: xIELU without a gate, norms over heads of q and k.
ModelConfig apertus_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.gated = false;
  d.mlp.activation = activation(hf, "hidden_act", "xielu");
  d.mlp.learned_activation = d.mlp.activation == Activation::xielu;
  d.rope_keys.theta = 12000000;
  d.rope();
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.attention.q_norm = named(d.norm, "q_norm");
  d.attention.k_norm = named(d.norm, "k_norm");
  return d.with_layers([&](int64_t) -> LayerConfig {
    return {{{named(d.norm, "attention_layernorm"), {}, share(d.attention)}, {named(d.norm, "feedforward_layernorm"), {}, share(d.mlp)}}};
  });
}

// Seed-OSS: biases on q, k, v, on the output by attention_out_bias.
ModelConfig seed_oss_config(const ConfigReader& hf) {
  Decoder d(hf);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.rope();
  d.attention_biases(hf.flag_or("attention_bias", true), hf.flag_or("attention_out_bias", false));
  d.mlp.bias = hf.flag_or("mlp_bias", false);
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

// Helium: neighbouring columns turn together.
ModelConfig helium_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-8);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.rope_keys.layout = RopeLayout::pairs;
  d.rope_keys.theta = 100000;
  d.rope();
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, false);
  d.mlp.bias = hf.flag_or("mlp_bias", false);
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

// ERNIE 4.5: the same, and biases everywhere by use_bias.
ModelConfig ernie4_5_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.rope_keys.layout = RopeLayout::pairs;
  d.rope_keys.theta = 500000;
  d.rope();
  const bool bias = hf.flag_or("use_bias", false);
  d.attention_biases(bias, bias);
  d.mlp.bias = bias;
  d.config.head_bias = bias && !d.config.tie_word_embeddings;
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

// Hunyuan (dense): norms over heads of q and k after their rotation.
ModelConfig hunyuan_v1_dense_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.rope();
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.attention.q_norm = named(d.norm, "query_layernorm");
  d.attention.k_norm = named(d.norm, "key_layernorm");
  d.attention.norm_after_rope = true;
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

// Muse Glimmer: normalised embeddings, Gemma's four norms, queries and keys of one length, a gate on what attention gives, capped logits.
ModelConfig muse_glimmer_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_activation", "silu");
  d.config.embedding_norm = weightless(d.norm);
  d.norm.offset = 1;
  d.attention.q_norm = d.attention.k_norm = weightless(named(d.norm, ""));
  d.attention.gate = "gate_proj";
  d.attention.scale *= static_cast<float>(hf.number_or("qk_scale_factor", 1));
  d.config.logit_scale = static_cast<float>(hf.number_or("output_multiplier", 1));
  if (hf.get("final_logit_softcapping")) d.config.logit_softcap = static_cast<float>(hf.number_or("final_logit_softcapping", 0));
  for (const char* key : {"image_token_id", "video_token_id"})
    if (hf.get(key)) d.config.placeholder_ids.push_back(static_cast<int32_t>(hf.number_or(key, 0)));
  if (hf.get("pad_token_id")) d.config.placeholder_as = static_cast<int32_t>(hf.number_or("pad_token_id", 0));
  const std::vector<double> thetas = hf.numbers("layer_rope_theta");
  if (static_cast<int64_t>(thetas.size()) != d.config.num_hidden_layers)
    hf.wrong("layer_rope_theta", std::to_string(d.config.num_hidden_layers) + " numbers, one per layer");
  const std::vector<bool> sliding = d.sliding(0);
  const int64_t window = hf.get("sliding_window") ? hf.positive("sliding_window") : 0;
  const float post_eps = static_cast<float>(hf.number_or("post_norm_eps", 1e-8));
  return d.with_layers([&](int64_t layer) {
    AttentionConfig attention = d.attention;
    const size_t i = static_cast<size_t>(layer);
    attention.window = sliding[i] ? window : 0;
    if (thetas[i] > 0) {
      const nlohmann::json only_theta = {{"rope_theta", thetas[i]}};
      attention.rope = read_rope(ConfigReader(only_theta, hf.file()), d.rope_keys);
    }
    LayerConfig out = d.sandwich(attention, share(d.mlp));
    for (BranchConfig& branch : out.branches) branch.after.eps = post_eps;
    return out;
  });
}

}  // namespace loraine
