// Gemma: norms that add 1 to their weight, embeddings times sqrt(hidden_size), tanh-gelu. Gemma 2: norms before and after each mixer,
// capped scores and logits, windows on every second layer. Gemma 3: norms over heads, two rotations, five windows to one full layer.
#include <cmath>

#include "loraine/model/families/families.h"
#include "loraine/model/families/gemma_parts.h"

namespace loraine {
namespace {

struct GemmaDecoder : Decoder {
  GemmaDecoder(const ConfigReader& hf, const char* activation_key) : Decoder(hf) {
    norm.offset = 1;
    config.final_norm = named(norm, "norm");
    if (!hf.get("tie_word_embeddings")) config.tie_word_embeddings = true;
    config.embedding_scale = std::sqrt(static_cast<float>(config.hidden_size));
    mlp.activation = activation(hf, activation_key, "gelu_pytorch_tanh");
    if (mlp.activation == Activation::gelu_erf) mlp.activation = Activation::gelu_tanh;  // "gelu" of the first files
    const bool bias = hf.flag_or("attention_bias", false);
    attention_biases(bias, bias);
  }
  void caps() {
    attention.scale = 1.0f / std::sqrt(static_cast<float>(hf.number_or("query_pre_attn_scalar", 256)));
    if (hf.get("final_logit_softcapping")) config.logit_softcap = static_cast<float>(hf.number_or("final_logit_softcapping", 0));
  }
};

}  // namespace

ModelConfig gemma_config(const ConfigReader& hf) {
  GemmaDecoder d(hf, hf.get("hidden_activation") ? "hidden_activation" : "hidden_act");
  d.rope();
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

ModelConfig gemma2_config(const ConfigReader& hf) {
  GemmaDecoder d(hf, "hidden_activation");
  d.caps();
  d.rope();
  if (hf.get("attn_logit_softcapping")) d.attention.softcap = static_cast<float>(hf.number_or("attn_logit_softcapping", 0));
  const std::vector<bool> sliding = d.sliding(2);
  const int64_t window = hf.positive_or("sliding_window", 4096);
  return d.with_layers([&](int64_t layer) {
    d.attention.window = sliding[static_cast<size_t>(layer)] ? window : 0;
    return d.sandwich(d.attention, share(d.mlp));
  });
}

ModelConfig gemma3_config(const ConfigReader& hf) {
  GemmaDecoder d(hf, "hidden_activation");
  d.caps();
  d.attention.q_norm = named(d.norm, "q_norm");
  d.attention.k_norm = named(d.norm, "k_norm");
  const char* pattern = hf.get("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
  const std::vector<bool> sliding = d.sliding(hf.positive_or(pattern, 6));
  const int64_t window = hf.positive_or("sliding_window", 4096);
  d.rope_keys.theta = 1000000;
  const auto full = d.rope_of("full_attention");
  const auto local = sliding_rope(d);
  return d.with_layers([&](int64_t layer) {
    const bool slides = sliding[static_cast<size_t>(layer)];
    d.attention.window = slides ? window : 0;
    d.attention.rope = slides ? local : full;
    return d.sandwich(d.attention, share(d.mlp));
  });
}

}  // namespace loraine
