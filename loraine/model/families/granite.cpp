// Granite 3: multipliers on embeddings, scores, branches and logits. Granite 4 without experts and Mamba: its MLP under other names. Granite
// with windows: sinks, and a theta per layer.
#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/expert_parts.h"
#include "loraine/model/families/families.h"

namespace loraine {
namespace {

struct GraniteDecoder : Decoder {
  explicit GraniteDecoder(const ConfigReader& hf) : Decoder(hf) {
    config.embedding_scale = static_cast<float>(hf.number_or("embedding_multiplier", 1));
    attention.scale = static_cast<float>(hf.number_or("attention_multiplier", 1));
    config.logit_scale = static_cast<float>(1 / hf.number_or("logits_scaling", 1));
    const bool bias = hf.flag_or("attention_bias", false);
    attention_biases(bias, bias);
    mlp.activation = activation(hf, "hidden_act", "silu");
    mlp.bias = hf.flag_or("mlp_bias", false);
  }
  LayerConfig scaled(LayerConfig layer) const {
    for (BranchConfig& branch : layer.branches) branch.scale = static_cast<float>(hf.number_or("residual_multiplier", 1));
    return layer;
  }
};

}  // namespace

ModelConfig granite_config(const ConfigReader& hf) {
  GraniteDecoder d(hf);
  d.rope();
  return d.with_layers([&](int64_t) { return d.scaled(d.pre_norm()); });
}

ModelConfig granitemoehybrid_config(const ConfigReader& hf) {
  GraniteDecoder d(hf);
  if (hf.get("num_local_experts") && hf.number_or("num_local_experts", 0) != 0)
    hf.wrong("num_local_experts", "0: the experts of Granite 4 are not built");
  if (const nlohmann::json* types = hf.get("layer_types"))
    for (const auto& type : *types)
      if (type != "full_attention" && type != "attention") hf.wrong("layer_types", "attention alone: the Mamba layers of Granite 4 are not built");
  d.mlp.folder = "shared_mlp.";
  d.mlp.gate_up = "input_linear";
  d.mlp.down = "output_linear";
  d.mlp.intermediate_size = hf.positive("shared_intermediate_size");
  if (hf.text_or("position_embedding_type", "") == "rope") d.rope();
  return d.with_layers([&](int64_t) { return d.scaled(d.pre_norm()); });
}

// The experts of Granite 3, with a shared MLP or without.
ModelConfig granitemoe_config(const ConfigReader& hf) {
  GraniteDecoder d(hf);
  d.rope();
  ExpertsConfig experts = experts_config(hf, d);
  experts.router.scores = RouterScores::chosen_softmax;
  experts.router.normalise = false;
  experts.whole_in_files = true;
  experts.folder = "block_sparse_moe.";
  experts.router_name = "router";
  d.config.names.stored = {{{".block_sparse_moe.router", ".block_sparse_moe.router.layer"},
                            {".block_sparse_moe.experts.gate_up_proj", ".block_sparse_moe.input_linear"},
                            {".block_sparse_moe.experts.down_proj", ".block_sparse_moe.output_linear"}}};
  if (const int64_t columns = static_cast<int64_t>(hf.number_or("shared_intermediate_size", 0)); columns > 0) {
    add_shared(experts, d.mlp, "shared_mlp.", columns);
    experts.shared->gate_up = "input_linear";
    experts.shared->down = "output_linear";
  }
  const auto mixer = share(experts);
  return d.with_layers([&](int64_t) { return d.scaled(d.pre_norm(d.attention, mixer)); });
}

ModelConfig granite_swa_config(const ConfigReader& hf) {
  GraniteDecoder d(hf);
  d.attention.sinks = true;
  const std::vector<double> thetas = hf.numbers("layer_rope_theta");
  if (static_cast<int64_t>(thetas.size()) != d.config.num_hidden_layers)
    hf.wrong("layer_rope_theta", std::to_string(d.config.num_hidden_layers) + " numbers, one per layer");
  const std::vector<bool> sliding = d.sliding(4);
  const int64_t window = hf.positive_or("sliding_window", 128);
  return d.with_layers([&](int64_t layer) {
    AttentionConfig attention = d.attention;
    const size_t i = static_cast<size_t>(layer);
    attention.window = sliding[i] ? window : 0;
    if (thetas[i] > 0) {  // 0: no rotation
      const nlohmann::json only_theta = {{"rope_theta", thetas[i]}};
      attention.rope = read_rope(ConfigReader(only_theta, hf.file()), d.rope_keys);
    }
    return d.scaled(d.pre_norm(attention, share(d.mlp)));
  });
}

}  // namespace loraine
