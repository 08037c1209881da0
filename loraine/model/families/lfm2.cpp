// LFM2: short convolutions and attention in turn, norms over each head of q and k.
#include <algorithm>

#include "loraine/model/families/expert_parts.h"
#include "loraine/model/families/families.h"
#include "loraine/model/families/hybrid.h"
#include "loraine/model/mixers/short_conv.h"

namespace loraine {
namespace {

// Two thirds of what config.json says, a multiple of block_multiple_of, unless block_auto_adjust_ff_dim is false.
int64_t mlp_width(const ConfigReader& hf) {
  int64_t width = hf.get("block_ff_dim") ? hf.positive("block_ff_dim") : hf.positive("intermediate_size");
  if (!hf.flag_or("block_auto_adjust_ff_dim", true)) return width;
  width = 2 * width / 3;
  if (hf.get("block_ffn_dim_multiplier"))
    width = static_cast<int64_t>(hf.number_or("block_ffn_dim_multiplier", 1) * static_cast<double>(width));
  const int64_t multiple = hf.positive_or("block_multiple_of", 256);
  return (width + multiple - 1) / multiple * multiple;
}

struct Lfm2Decoder : Decoder {
  explicit Lfm2Decoder(const ConfigReader& hf) : Decoder(hf, "norm_eps", 1e-5) {
    config.names.final_norm = "model.embedding_norm";
    if (!hf.get("tie_word_embeddings")) config.tie_word_embeddings = hf.flag_or("tie_embedding", true);
    mlp.folder = "feed_forward.";
    mlp.gate = "w1";
    mlp.up = "w3";
    mlp.down = "w2";
    attention.output = "out_proj";
    attention.q_norm = named(norm, "q_layernorm");
    attention.k_norm = named(norm, "k_layernorm");
    rope_keys.theta = 1000000;
    rope();
    conv.hidden_size = config.hidden_size;
    conv.taps = hf.positive_or("conv_L_cache", 3);
    conv.bias = hf.flag_or("conv_bias", false);
  }
  // Per layer, whether it is a convolution.
  std::vector<bool> convolutions() const {
    const nlohmann::json* full = hf.get("full_attn_idxs");
    return recurrent_layers(*this, {"conv"},
                            [&](int64_t layer) { return full && std::find(full->begin(), full->end(), layer) == full->end(); });
  }
  LayerConfig layer(bool convolution, const std::shared_ptr<const MixerConfig>& channels) const {
    return {{{named(norm, "operator_norm"), {}, convolution ? share(conv) : share(attention)}, {named(norm, "ffn_norm"), {}, channels}}};
  }
  ShortConvConfig conv;
};

}  // namespace

ModelConfig lfm2_config(const ConfigReader& hf) {
  Lfm2Decoder d(hf);
  d.mlp.intermediate_size = mlp_width(hf);
  const std::vector<bool> convolutions = d.convolutions();
  return d.with_layers([&](int64_t layer) { return d.layer(convolutions[static_cast<size_t>(layer)], share(d.mlp)); });
}

ModelConfig lfm2_moe_config(const ConfigReader& hf) {
  Lfm2Decoder d(hf);
  ExpertsConfig experts = experts_config(hf, d);
  route_by_sigmoid(hf, experts);
  experts.router.normaliser_floor = 1e-6f;
  experts.correction = hf.flag_or("use_expert_bias", true) ? "expert_bias" : "";
  experts.folder = "feed_forward.";
  experts.gate_piece = "w1";
  experts.up_piece = "w3";
  experts.down_piece = "w2";
  const int64_t dense = static_cast<int64_t>(hf.number_or("num_dense_layers", 2));
  const std::vector<bool> convolutions = d.convolutions();
  const std::shared_ptr<const MixerConfig> mlp = share(d.mlp), sparse = share(experts);
  return d.with_layers([&](int64_t layer) { return d.layer(convolutions[static_cast<size_t>(layer)], layer < dense ? mlp : sparse); });
}

}  // namespace loraine
