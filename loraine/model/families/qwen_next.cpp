// Qwen 3.5 and Qwen3-Next: three layers of gated delta nets to one of attention, whose output is gated by what q_proj gives beside q; norms
// that add 1 to their weight, a quarter of each head turns.
#include "loraine/model/families/expert_parts.h"
#include "loraine/model/families/families.h"
#include "loraine/model/families/hybrid.h"
#include "loraine/model/mixers/gated_delta_net.h"

namespace loraine {
namespace {

struct QwenNextDecoder : Decoder {
  QwenNextDecoder(const ConfigReader& hf, DeltaProjections projections) : Decoder(hf) {
    norm.offset = 1;
    config.final_norm = named(norm, "norm");
    mlp.activation = activation(hf, "hidden_act", "silu");
    const bool bias = hf.flag_or("attention_bias", false);
    attention_biases(bias, bias);
    attention.gate_in_q = true;
    attention.q_norm = named(norm, "q_norm");
    attention.k_norm = named(norm, "k_norm");
    rope_keys.partial = 0.25;
    rope();
    delta.hidden_size = config.hidden_size;
    delta.key_heads = hf.positive_or("linear_num_key_heads", 16);
    delta.value_heads = hf.positive_or("linear_num_value_heads", 32);
    if (delta.value_heads % delta.key_heads) hf.wrong("linear_num_value_heads", "a multiple of linear_num_key_heads");
    delta.key_dim = hf.positive_or("linear_key_head_dim", 128);
    delta.value_dim = hf.positive_or("linear_value_head_dim", 128);
    delta.taps = hf.positive_or("linear_conv_kernel_dim", 4);
    delta.norm_eps = norm.eps;
    delta.projections = projections;
    const int64_t full = hf.positive_or("full_attention_interval", 4);
    linear = recurrent_layers(*this, {"linear_attention"}, [&](int64_t layer) { return (layer + 1) % full != 0; });
  }
  LayerConfig layer(int64_t number, const std::shared_ptr<const MixerConfig>& channels) const {
    const bool recurrent = linear[static_cast<size_t>(number)];
    return {{{named(norm, "input_layernorm"), {}, recurrent ? share(delta) : share(attention)},
             {named(norm, "post_attention_layernorm"), {}, channels}}};
  }
  ModelConfig with_sparse_layers(bool normalise) {
    ExpertsConfig experts = experts_config(hf, *this);
    experts.router.normalise = normalise;
    add_shared(experts, mlp, "mlp.shared_expert.", hf.positive("shared_expert_intermediate_size"));
    experts.shared_gate = "shared_expert_gate";
    const std::set<int64_t> dense = qwen_dense_layers(*this);
    const std::shared_ptr<const MixerConfig> of_dense = share(mlp), sparse = share(experts);
    return with_layers([&](int64_t number) { return layer(number, dense.contains(number) ? of_dense : sparse); });
  }
  GatedDeltaNetConfig delta;
  std::vector<bool> linear;  // per layer, whether it is a gated delta net
};

}  // namespace

ModelConfig qwen3_5_config(const ConfigReader& hf) {
  QwenNextDecoder d(hf, DeltaProjections::parts);
  return d.with_layers([&](int64_t layer) { return d.layer(layer, share(d.mlp)); });
}

ModelConfig qwen3_5_moe_config(const ConfigReader& hf) { return QwenNextDecoder(hf, DeltaProjections::parts).with_sparse_layers(true); }

ModelConfig qwen3_next_config(const ConfigReader& hf) {
  return QwenNextDecoder(hf, DeltaProjections::by_key).with_sparse_layers(hf.flag_or("norm_topk_prob", true));
}

}  // namespace loraine
