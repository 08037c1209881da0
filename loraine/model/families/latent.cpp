// Families with latent attention: DeepSeek V2 and V3 (Kimi K2, Moonlight), GLM-4.7-Flash, Mistral Small 4, Youtu, MiniCPM 3, Kimi Linear.
#include <algorithm>
#include <cmath>

#include "loraine/model/families/expert_parts.h"
#include "loraine/model/families/families.h"
#include "loraine/model/families/hybrid.h"
#include "loraine/model/mixers/gated_delta_net.h"
#include "loraine/model/mixers/latent_attention.h"

namespace loraine {
namespace {

struct LatentDecoder : Decoder {
  // layout: how transformers turns the columns. Where it first brings pairs into halves the scores are those of pairs, and only they count.
  LatentDecoder(const ConfigReader& hf, RopeLayout layout, double eps = 1e-6) : Decoder(hf, "rms_norm_eps", eps) {
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
  LayerConfig layer(const std::shared_ptr<const MixerConfig>& tokens, const std::shared_ptr<const MixerConfig>& channels) const {
    return {{{named(norm, "input_layernorm"), {}, tokens}, {named(norm, "post_attention_layernorm"), {}, channels}}};
  }
  LayerConfig latent_layer(const std::shared_ptr<const MixerConfig>& channels) const { return layer(share(latent), channels); }

  // The MLP beside the experts, which is as wide as so many of them.
  void add_shared_experts(ExpertsConfig& experts, const char* number) const {
    const int64_t beside = hf.get(number) ? hf.positive(number) : 0;
    if (beside > 0) add_shared(experts, mlp, "mlp.shared_experts.", beside * experts.intermediate_size);
  }
  ModelConfig with_latent_experts(ExpertsConfig experts) {
    add_shared_experts(experts, "n_shared_experts");
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

// The sizes of Kimi Delta Attention: in linear_attn_config as published, or in keys of their own as transformers writes them.
GatedDeltaNetConfig kimi_delta(const Decoder& d) {
  const ConfigReader inner = d.hf.inside("linear_attn_config");
  const auto size = [&](const char* published, const char* own, int64_t otherwise) {
    return inner.get(published) ? inner.positive(published) : d.hf.positive_or(own, otherwise);
  };
  GatedDeltaNetConfig delta;
  delta.hidden_size = d.config.hidden_size;
  delta.key_heads = delta.value_heads = size("num_heads", "linear_num_heads", 32);
  delta.key_dim = delta.value_dim = delta.rank = size("head_dim", "linear_head_dim", 128);
  delta.taps = size("short_conv_kernel_size", "linear_conv_kernel_dim", 4);
  delta.projections = DeltaProjections::low_rank;
  delta.channel_decay = true;
  delta.gate = GateActivation::sigmoid;
  delta.norm_eps = d.norm.eps;
  delta.folder = "self_attn.";
  delta.norm = "o_norm";
  delta.output = "o_proj";
  return delta;
}

// By layer_types, or the numbers from 1 on in linear_attn_config, or every fourth layer attends but the first.
std::vector<bool> kimi_recurrent_layers(const Decoder& d) {
  const ConfigReader inner = d.hf.inside("linear_attn_config");
  if (!inner.get("full_attn_layers") || !inner.get("kda_layers"))
    return recurrent_layers(d, {"linear_attention"}, [](int64_t layer) { return layer == 0 || layer % 4 != 0; });
  const std::vector<double> attend = inner.numbers("full_attn_layers"), recur = inner.numbers("kda_layers");
  return recurrent_layers(d, {"linear_attention"}, [&](int64_t layer) {
    const auto in = [&](const std::vector<double>& all) { return std::find(all.begin(), all.end(), layer + 1) != all.end(); };
    if (in(attend) == in(recur)) inner.wrong("kda_layers", "layer " + std::to_string(layer + 1) + " either here or in full_attn_layers");
    return in(recur);
  });
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

// Kimi Linear: Kimi Delta Attention, and layers of latent attention whose columns all stand still.
ModelConfig kimi_linear_config(const ConfigReader& hf) {
  LatentDecoder d(hf, RopeLayout::half, 1e-5);
  d.config.max_position_embeddings = hf.positive_or("model_max_length", d.config.max_position_embeddings);
  d.latent.rope = nullptr;
  d.latent.scale = 1 / std::sqrt(static_cast<float>(d.latent.key_dim()));
  if (!hf.flag_or("mla_use_nope", true)) hf.wrong("mla_use_nope", "true: a rotation is not built");
  if (const std::string scores = hf.text_or("moe_router_activation_func", "sigmoid"); scores != "sigmoid")
    hf.wrong("moe_router_activation_func", "sigmoid");
  if (hf.positive_or("moe_layer_freq", 1) != 1) hf.wrong("moe_layer_freq", "1");
  ExpertsConfig experts = experts_config(hf, d);
  route_by_sigmoid(hf, experts);
  if (!hf.get("routed_scaling_factor")) experts.router.scale = 2.446f;
  name_w1_w2_w3(experts);
  d.add_shared_experts(experts, "num_shared_experts");
  // Dense layers keep the name that the experts have in memory, but in what transformers 5.24 saves.
  d.config.names.stored = {{{".mlp", ".block_sparse_moe"}, {".forget_gate", ""}},
                           {{".mlp.gate", ".block_sparse_moe.gate"},
                            {".mlp.experts", ".block_sparse_moe.experts"},
                            {".mlp.shared_experts", ".block_sparse_moe.shared_experts"},
                            {".forget_gate", ""}}};
  const std::shared_ptr<const MixerConfig> delta = share(kimi_delta(d)), attention = share(d.latent), mlp = share(d.mlp),
                                           sparse = share(experts);
  const std::vector<bool> recurrent = kimi_recurrent_layers(d);
  const std::set<int64_t> dense = dense_layers(hf, d, 1);
  return d.with_layers([&](int64_t layer) {
    return d.layer(recurrent[static_cast<size_t>(layer)] ? delta : attention, dense.contains(layer) ? mlp : sparse);
  });
}

}  // namespace loraine
