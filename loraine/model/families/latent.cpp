// Families with latent attention: DeepSeek V2 and V3 (Kimi K2, Moonlight), GLM-4.7-Flash, Mistral Small 4, Youtu, MiniCPM 3.
#include <cmath>

#include "loraine/model/families/expert_parts.h"
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
    // qk_rope_head_dim columns turn, whatever part of which head config.json says they are.
    const ConfigReader rope = rope_object(hf), &with = rope.get("partial_rotary_factor") ? rope : hf;
    const double part = with.get("partial_rotary_factor") ? with.number_or("partial_rotary_factor", 1) : 1;
    if (!(part > 0 && part <= 1)) with.wrong("partial_rotary_factor", "a number above 0, at most 1");
    rope_keys.head_dim = std::llround(static_cast<double>(latent.rope_dim) / part);
    rope_keys.layout = layout;
    latent.rope = read_rope(hf, rope_keys);
  }
  LayerConfig latent_layer(const std::shared_ptr<const MixerConfig>& channels) const {
    return {{{named(norm, "input_layernorm"), {}, share(latent)}, {named(norm, "post_attention_layernorm"), {}, channels}}};
  }

  // Beside a shared MLP, which is as wide as n_shared_experts of them.
  ModelConfig with_latent_experts(ExpertsConfig experts) {
    const int64_t beside = hf.get("n_shared_experts") ? hf.positive("n_shared_experts") : 0;
    if (beside > 0) add_shared(experts, mlp, "mlp.shared_experts.", beside * experts.intermediate_size);
    const std::set<int64_t> dense = dense_layers(hf, *this);
    const std::shared_ptr<const MixerConfig> alone = share(mlp), sparse = share(experts);
    return with_layers([&](int64_t layer) { return latent_layer(dense.contains(layer) ? alone : sparse); });
  }

  LatentAttentionConfig latent;
};

RopeLayout interleaved(const ConfigReader& hf) { return hf.flag_or("rope_interleave", true) ? RopeLayout::pairs : RopeLayout::half; }

// Softmax over all experts; of groups those with the best expert are chosen from.
void route_by_softmax(const ConfigReader& hf, ExpertsConfig& experts, bool grouped) {
  RouterShape& r = experts.router;
  r.scale = static_cast<float>(hf.number_or("routed_scaling_factor", 1));
  r.group_value = GroupValue::best;
  if (!grouped || !hf.get("n_group")) return;
  r.groups = hf.positive("n_group");
  r.kept_groups = hf.get("topk_group") ? hf.positive("topk_group") : r.groups;
  if (r.experts % r.groups) hf.wrong("n_group", "a divisor of the number of experts, " + std::to_string(r.experts));
  if (r.kept_groups > r.groups || r.kept_groups * (r.experts / r.groups) < r.per_token)
    hf.wrong("topk_group", "groups enough for the experts of a token, and at most n_group");
}

}  // namespace

// Weights are never divided by their sum, whatever norm_topk_prob says.
ModelConfig deepseek_v2_config(const ConfigReader& hf) {
  LatentDecoder d(hf, RopeLayout::pairs);
  d.mlp.bias = hf.flag_or("mlp_bias", false);
  ExpertsConfig experts = experts_config(hf, d);
  experts.router.normalise = false;
  const std::string method = hf.text_or("topk_method", "greedy");
  if (method != "greedy" && method != "group_limited_greedy") hf.wrong("topk_method", "greedy or group_limited_greedy");
  route_by_softmax(hf, experts, method == "group_limited_greedy");
  return d.with_latent_experts(experts);
}

ModelConfig deepseek_v3_config(const ConfigReader& hf) {
  LatentDecoder d(hf, interleaved(hf));
  ExpertsConfig experts = experts_config(hf, d);
  route_by_sigmoid(hf, experts);
  return d.with_latent_experts(experts);
}

// Queries grow with their position; experts are stored as one tensor.
ModelConfig mistral4_config(const ConfigReader& hf) {
  LatentDecoder d(hf, interleaved(hf));
  const ConfigReader rope = rope_object(hf);
  if (rope.get("llama_4_scaling_beta")) {
    d.latent.temperature.beta = static_cast<float>(rope.number_or("llama_4_scaling_beta", 0));
    d.latent.temperature.length = rope.positive("original_max_position_embeddings");
  }
  ExpertsConfig experts = experts_config(hf, d);
  experts.router.normalise = hf.flag_or("norm_topk_prob", true);
  experts.whole_in_files = true;
  route_by_softmax(hf, experts, true);
  return d.with_latent_experts(experts);
}

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
