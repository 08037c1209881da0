// Mistral: a sliding window on every layer when sliding_window is a number.
#include "loraine/model/families/families.h"

namespace loraine {

ModelConfig mistral_config(const ConfigReader& hf) {
  ModelConfig config = decoder_config(hf);
  sliding_window(config, hf, 0);
  return config;
}

}  // namespace loraine
