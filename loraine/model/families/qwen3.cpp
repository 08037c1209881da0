// Qwen 3: norms over each head of q and k; biases by attention_bias.
#include "loraine/model/families/families.h"

namespace loraine {

ModelConfig qwen3_config(const ConfigReader& hf) {
  ModelConfig config = decoder_config(hf);
  config.qk_norm = true;
  config.qkv_bias = config.output_bias = hf.flag_or("attention_bias", false);
  if (hf.flag_or("use_sliding_window", false)) sliding_window(config, hf, hf.positive_or("max_window_layers", 28));
  return config;
}

}  // namespace loraine
