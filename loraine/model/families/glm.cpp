// GLM-4: half of each head turns, in neighbouring columns; gate and up in one matrix. GLM-4-0414: norms after attention and MLP as well.
#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/families.h"

namespace loraine {
namespace {

struct GlmDecoder : Decoder {
  explicit GlmDecoder(const ConfigReader& hf) : Decoder(hf, "rms_norm_eps", 1.5625e-7) {
    mlp.activation = activation(hf, "hidden_act", "silu");
    mlp.gate_up = "gate_up_proj";
    attention_biases(hf.flag_or("attention_bias", false), false);
    rope_keys.layout = RopeLayout::pairs;
    rope_keys.partial = 0.5;
    rope();
  }
};

}  // namespace

ModelConfig glm_config(const ConfigReader& hf) {
  GlmDecoder d(hf);
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

ModelConfig glm4_config(const ConfigReader& hf) {
  GlmDecoder d(hf);
  return d.with_layers([&](int64_t) {
    LayerConfig layer = d.pre_norm();
    layer.branches[0].after = named(d.norm, "post_self_attn_layernorm");
    layer.branches[1].after = named(d.norm, "post_mlp_layernorm");
    return layer;
  });
}

}  // namespace loraine
