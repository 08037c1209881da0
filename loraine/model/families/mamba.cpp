// Families with Mamba-2. Bamba: Mamba or attention, then an MLP. Falcon-H1: both beside each other behind one norm, multipliers everywhere.
// Nemotron-H: one mixer per layer. Jamba: Mamba-1 or attention without rotation, then an MLP or experts.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "loraine/model/families/expert_parts.h"
#include "loraine/model/families/families.h"
#include "loraine/model/families/hybrid.h"
#include "loraine/model/mixers/mamba1.h"

namespace loraine {
namespace {

std::array<float, 5> five_multipliers(const ConfigReader& hf, float of_all) {
  std::array<float, 5> all;
  all.fill(of_all);
  if (!hf.get("ssm_multipliers")) return all;
  const std::vector<double> given = hf.numbers("ssm_multipliers");
  if (given.size() != all.size()) hf.wrong("ssm_multipliers", "five numbers: for the gate, x, B, C and dt");
  for (size_t i = 0; i < all.size(); ++i) all[i] *= static_cast<float>(given[i]);
  return all;
}

// Names that Bamba and Falcon-H1 share.
void name_parts(Decoder& d) {
  d.config.names.final_norm = "model.final_layernorm";
  d.mlp.folder = "feed_forward.";
  d.mlp.activation = activation(d.hf, "hidden_act", "silu");
  d.mlp.bias = d.hf.flag_or("mlp_bias", false);
}

// The letters of Nemotron-H's layers: M Mamba, * attention, - MLP, E experts.
std::string kinds_of_layers(const ConfigReader& hf, int64_t layers) {
  std::string kinds;
  if (const nlohmann::json* types = hf.get("layers_block_type")) {
    static const std::pair<const char*, char> kWords[] = {
        {"mamba", 'M'}, {"linear_attention", 'M'}, {"attention", '*'}, {"full_attention", '*'}, {"mlp", '-'}, {"moe", 'E'}};
    for (const auto& type : *types)
      for (const auto& [word, letter] : kWords)
        if (type == word) kinds += letter;
    if (static_cast<int64_t>(kinds.size()) != layers)
      hf.wrong("layers_block_type", fmt::format("{} words among mamba, attention, mlp and moe", layers));
    return kinds;
  }
  kinds = hf.text_or("hybrid_override_pattern", "");
  if (static_cast<int64_t>(kinds.size()) != layers || kinds.find_first_not_of("M*-E") != std::string::npos)
    hf.wrong("hybrid_override_pattern",
             fmt::format("{} letters, one for each layer: M (Mamba), * (attention), - (MLP) or E (experts)", layers));
  return kinds;
}

Mamba2Config nemotron_mamba(const Decoder& d) {
  const ConfigReader& hf = d.hf;
  Mamba2Config out;
  out.folder = "mixer.";
  out.hidden_size = d.config.hidden_size;
  out.heads = hf.positive_or("mamba_num_heads", 128);
  out.head_dim = hf.positive_or("mamba_head_dim", 64);
  out.groups = hf.positive_or("n_groups", 8);
  if (out.heads % out.groups) hf.wrong("n_groups", fmt::format("a divisor of mamba_num_heads {}", out.heads));
  out.state = hf.positive_or("ssm_state_size", 128);
  out.taps = hf.positive_or("conv_kernel", 4);
  out.conv_bias = hf.flag_or("use_conv_bias", true);
  out.in_bias = out.out_bias = hf.flag_or("use_bias", false);
  out.norm_eps = d.norm.eps;
  const TimeStepLimits dt = limits_or(hf, "time_step_limit", {0, std::numeric_limits<float>::infinity()});
  out.dt_min = dt.low;
  out.dt_max = dt.high;
  return out;
}

ExpertsConfig nemotron_experts(Decoder& d) {
  const ConfigReader& hf = d.hf;
  if (hf.get("moe_latent_size")) hf.wrong("moe_latent_size", "null: experts behind a projection are not built");
  ExpertsConfig out = experts_config(hf, d);
  route_by_sigmoid(hf, out);
  out.folder = "mixer.";
  out.gated = false;
  out.gate_up = "up_proj";
  if (const double n = hf.number_or("n_shared_experts", 1); n > 0)
    add_shared(
        out, d.mlp, "mixer.shared_experts.",
        hf.positive(hf.get("moe_shared_expert_intermediate_size") ? "moe_shared_expert_intermediate_size" : "moe_intermediate_size"));
  return out;
}

}  // namespace

ModelConfig bamba_config(const ConfigReader& hf) {
  Decoder d(hf);
  name_parts(d);
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.rope_keys.partial = 0.5;
  d.rope();
  const Mamba2Config mamba = read_mamba(d);
  const nlohmann::json* attends = hf.get("attn_layer_indices");
  const std::vector<bool> recurrent = recurrent_layers(d, {"mamba", "linear_attention"}, [&](int64_t layer) {
    return !attends || std::find(attends->begin(), attends->end(), layer) == attends->end();
  });
  return d.with_layers([&](int64_t layer) -> LayerConfig {
    const bool scans = recurrent[static_cast<size_t>(layer)];
    return {{{named(d.norm, "input_layernorm"), {}, scans ? share(mamba) : share(d.attention)},
             {named(d.norm, "pre_ff_layernorm"), {}, share(d.mlp)}}};
  });
}

// Without biases, a multiplier of a product's input is one of what it gives. That of attention's input goes to its scores (twice) and its
// output, that of Mamba's input to its five parts.
ModelConfig falcon_h1_config(const ConfigReader& hf) {
  Decoder d(hf);
  name_parts(d);
  const auto multiplier = [&](const char* key) { return static_cast<float>(hf.number_or(key, 1)); };
  d.config.embedding_scale = multiplier("embedding_multiplier");
  d.config.logit_scale = multiplier("lm_head_multiplier");
  d.rope();
  const bool bias = hf.flag_or("attention_bias", false);
  const float into = multiplier("attention_in_multiplier"), of_keys = multiplier("key_multiplier");
  if (bias && (into != 1 || of_keys != 1)) hf.wrong("attention_bias", "false beside attention_in_multiplier and key_multiplier");
  d.attention_biases(bias, bias);
  d.attention.scale *= into * into * of_keys;
  Mamba2Config mamba = read_mamba(d);
  const float into_mamba = multiplier("ssm_in_multiplier");
  if (mamba.in_bias && into_mamba != 1) hf.wrong("mamba_proj_bias", "false beside ssm_in_multiplier");
  mamba.out_bias = hf.flag_or("projectors_bias", mamba.in_bias);
  mamba.multipliers = five_multipliers(hf, into_mamba);
  mamba.norm = hf.flag_or("mamba_rms_norm", false);
  mamba.norm_before_gate = hf.flag_or("mamba_norm_before_gate", true);
  float of_mlp = 1;
  if (hf.get("mlp_multipliers")) {
    const std::vector<double> two = hf.numbers("mlp_multipliers");
    if (two.size() != 2) hf.wrong("mlp_multipliers", "two numbers: for the gate and for what the MLP gives");
    d.mlp.gate_scale = static_cast<float>(two[0]);
    of_mlp = static_cast<float>(two[1]);
  }
  const NormConfig first = named(d.norm, "input_layernorm");
  return d.with_layers([&](int64_t) -> LayerConfig {
    return {{{first, {}, share(mamba), multiplier("ssm_out_multiplier")},
             {first, {}, share(d.attention), into * multiplier("attention_out_multiplier"), true},
             {named(d.norm, "pre_ff_layernorm"), {}, share(d.mlp), of_mlp}}};
  });
}

ModelConfig nemotron_h_config(const ConfigReader& hf) {
  Decoder d(hf, "layer_norm_epsilon", 1e-5);
  ModelNames& names = d.config.names;
  names.embedding = "model.embeddings";
  names.final_norm = "model.norm_f";
  names.stored = {{{"model.", "backbone."}}, {}};
  d.attention.folder = d.mlp.folder = "mixer.";
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.mlp.gated = false;
  d.mlp.bias = hf.flag_or("mlp_bias", false);
  d.mlp.activation = activation(hf, "mlp_hidden_act", "relu2");
  const std::string kinds = kinds_of_layers(hf, d.config.num_hidden_layers);
  std::map<char, std::shared_ptr<const MixerConfig>> mixers = {
      {'M', share(nemotron_mamba(d))}, {'*', share(d.attention)}, {'-', share(d.mlp)}};
  if (kinds.find('E') != std::string::npos) mixers['E'] = share(nemotron_experts(d));
  return d.with_layers([&](int64_t layer) -> LayerConfig {
    return {{{named(d.norm, "norm"), {}, mixers.at(kinds[static_cast<size_t>(layer)])}}};
  });
}

ModelConfig jamba_config(const ConfigReader& hf) {
  Decoder d(hf);
  name_parts(d);
  Mamba1Config mamba;
  mamba.hidden_size = d.config.hidden_size;
  mamba.channels = hf.positive_or("mamba_expand", 2) * d.config.hidden_size;
  mamba.state = hf.positive_or("mamba_d_state", 16);
  const nlohmann::json* rank = hf.get("mamba_dt_rank");  // a number or "auto"
  mamba.dt_rank = rank && !rank->is_string() ? hf.positive("mamba_dt_rank") : (d.config.hidden_size + 15) / 16;
  mamba.taps = hf.positive_or("mamba_d_conv", 4);
  mamba.bias = hf.flag_or("mamba_proj_bias", false);
  mamba.conv_bias = hf.flag_or("mamba_conv_bias", true);
  mamba.inner = d.norm;
  const auto offset = [&](const char* key) { return static_cast<int64_t>(hf.number_or(key, key[0] == 'a' ? 4 : 1)); };
  const int64_t attends = hf.positive_or("attn_layer_period", 8), first = offset("attn_layer_offset"),
                sparse = hf.positive_or("expert_layer_period", 2), first_sparse = offset("expert_layer_offset");
  const std::vector<bool> recurrent =
      recurrent_layers(d, {"mamba", "linear_attention"}, [&](int64_t layer) { return layer % attends != first; });
  std::shared_ptr<const MixerConfig> experts = share(d.mlp);
  const std::shared_ptr<const MixerConfig> mlp = experts;
  if (hf.number_or("num_experts", 16) > 1) {
    ExpertsConfig config = experts_config(hf, d);
    config.folder = "feed_forward.";
    config.router_name = "router";
    experts = share(config);
  }
  return d.with_layers([&](int64_t layer) -> LayerConfig {
    const bool scans = recurrent[static_cast<size_t>(layer)], routed = layer % sparse == first_sparse;
    return {{{named(d.norm, "input_layernorm"), {}, scans ? share(mamba) : share(d.attention)},
             {named(d.norm, "pre_ff_layernorm"), {}, routed ? experts : mlp}}};
  });
}

}  // namespace loraine
