// Command R and Aya: LayerNorms without bias, attention and MLP beside each other, neighbouring columns turn together, scaled logits.
#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/families.h"

namespace loraine {
namespace {

struct CohereDecoder : Decoder {
  explicit CohereDecoder(const ConfigReader& hf) : Decoder(hf, "layer_norm_eps", 1e-5) {
    norm = layer_norm_config("", norm.eps, false);
    config.final_norm = named(norm, "norm");
    if (!hf.get("tie_word_embeddings")) config.tie_word_embeddings = true;
    config.logit_scale = static_cast<float>(hf.number_or("logit_scale", 0.0625));
    mlp.activation = activation(hf, "hidden_act", "silu");
    const bool bias = hf.flag_or("attention_bias", false);
    attention_biases(bias, bias);
    rope_keys.layout = RopeLayout::pairs;
    rope();
  }
  LayerConfig layer(const AttentionConfig& with) const {
    const NormConfig before = named(norm, "input_layernorm");
    return {{{before, {}, share(with)}, {before, {}, share(mlp), 1, true}}};
  }
};

}  // namespace

ModelConfig cohere_config(const ConfigReader& hf) {
  CohereDecoder d(hf);
  if (hf.flag_or("use_qk_norm", false)) {
    d.attention.head_norms = HeadNorms::rows;
    d.attention.q_norm = named(d.norm, "q_norm");
    d.attention.k_norm = named(d.norm, "k_norm");
  }
  return d.with_layers([&](int64_t) { return d.layer(d.attention); });
}

ModelConfig cohere2_config(const ConfigReader& hf) {
  CohereDecoder d(hf);
  const std::vector<bool> sliding = d.sliding(hf.positive_or("sliding_window_pattern", 4));
  const int64_t window = hf.positive_or("sliding_window", 4096);
  return d.with_layers([&](int64_t layer) {
    AttentionConfig attention = d.attention;
    const bool slides = sliding[static_cast<size_t>(layer)];
    attention.window = slides ? window : 0;
    if (!slides) attention.rope = nullptr;
    return d.layer(attention);
  });
}

}  // namespace loraine
