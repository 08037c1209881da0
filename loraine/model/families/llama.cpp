// Llama 2, Llama 3 (rope scaling llama3), SmolLM2: biases by attention_bias and mlp_bias.
#include "loraine/model/families/families.h"

namespace loraine {

ModelConfig llama_config(const ConfigReader& hf) {
  ModelConfig config = decoder_config(hf);
  config.qkv_bias = config.output_bias = hf.flag_or("attention_bias", false);
  config.mlp_bias = hf.flag_or("mlp_bias", false);
  return config;
}

}  // namespace loraine
