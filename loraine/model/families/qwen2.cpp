// Qwen 2 and 2.5: biases on q, k, v; a sliding window on the later layers only when use_sliding_window is true.
#include "loraine/model/families/families.h"

namespace loraine {

ModelConfig qwen2_config(const ConfigReader& hf) {
  ModelConfig config = decoder_config(hf);
  config.qkv_bias = true;
  if (hf.flag_or("use_sliding_window", false)) sliding_window(config, hf, hf.positive_or("max_window_layers", 28));
  return config;
}

}  // namespace loraine
