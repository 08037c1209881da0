// Llama 2 and 3, SmolLM2, InternLM 3: biases by attention_bias and mlp_bias.
#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/families.h"

namespace loraine {

ModelConfig llama_config(const ConfigReader& hf) {
  Decoder d(hf);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.attention_biases(hf.flag_or("qkv_bias", false) || hf.flag_or("attention_bias", false), hf.flag_or("attention_bias", false));
  d.mlp.bias = hf.flag_or("mlp_bias", false);
  d.rope();
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

}  // namespace loraine
