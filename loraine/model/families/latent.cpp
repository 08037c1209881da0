// Families with latent attention: Youtu, MiniCPM 3.
#include <cmath>

#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/families.h"
#include "loraine/model/mixers/latent_attention.h"

namespace loraine {
namespace {

struct LatentDecoder : Decoder {
  // layout: how transformers turns the columns. Where it first brings pairs into halves the scores are those of pairs, and only they count.
  LatentDecoder(const ConfigReader& hf, RopeLayout layout) : Decoder(hf) {
    mlp.activation = activation(hf, "hidden_act", "silu");
    latent.hidden_size = config.hidden_size;
    latent.heads = attention.heads;
    latent.q_rank = hf.get("q_lora_rank") ? hf.positive("q_lora_rank") : 0;
    latent.kv_rank = hf.positive("kv_lora_rank");
    latent.nope_dim = hf.positive("qk_nope_head_dim");
    latent.rope_dim = hf.positive("qk_rope_head_dim");
    latent.value_dim = hf.positive("v_head_dim");
    if (latent.rope_dim % 2) hf.wrong("qk_rope_head_dim", "an even number");
    latent.latent_norm = rms("", 1e-6);
    latent.bias = hf.flag_or("attention_bias", false);
    latent.scale = static_cast<float>(yarn_softmax_factor(hf)) / std::sqrt(static_cast<float>(latent.key_dim()));
    rope_keys.head_dim = latent.rope_dim;
    rope_keys.layout = layout;
    latent.rope = read_rope(hf, rope_keys);
  }
  LayerConfig latent_layer(const std::shared_ptr<const MixerConfig>& channels) const {
    return {{{named(norm, "input_layernorm"), {}, share(latent)}, {named(norm, "post_attention_layernorm"), {}, channels}}};
  }

  LatentAttentionConfig latent;
};

RopeLayout interleaved(const ConfigReader& hf) { return hf.flag_or("rope_interleave", true) ? RopeLayout::pairs : RopeLayout::half; }

}  // namespace

ModelConfig youtu_config(const ConfigReader& hf) {
  LatentDecoder d(hf, interleaved(hf));
  if (!hf.get("tie_word_embeddings")) d.config.tie_word_embeddings = true;
  d.mlp.bias = hf.flag_or("mlp_bias", false);
  return d.with_layers([&](int64_t) { return d.latent_layer(share(d.mlp)); });
}

// MiniCPM 3: factors on embeddings, branches and what the head reads.
ModelConfig minicpm3_config(const ConfigReader& hf) {
  LatentDecoder d(hf, RopeLayout::half);
  if (!hf.get("tie_word_embeddings")) d.config.tie_word_embeddings = true;
  d.mlp.bias = hf.flag_or("mlp_bias", false);
  d.config.embedding_scale = static_cast<float>(hf.number_or("scale_emb", 1));
  d.config.logit_scale = static_cast<float>(hf.number_or("dim_model_base", 256) / static_cast<double>(d.config.hidden_size));
  const double depth = hf.number_or("scale_depth", 1) / std::sqrt(static_cast<double>(d.config.num_hidden_layers));
  return d.with_layers([&](int64_t) {
    LayerConfig layer = d.latent_layer(share(d.mlp));
    for (BranchConfig& branch : layer.branches) branch.scale = static_cast<float>(depth);
    return layer;
  });
}

}  // namespace loraine
