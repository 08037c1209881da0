// The groups of LoRA+.
#include "loraine/train/optimizers/loraplus.h"

namespace loraine {

std::vector<double> loraplus_factors(std::span<const Parameter> parameters, const LoraPlus& settings) {
  std::vector<double> factors;
  for (const Parameter& p : parameters) {
    const bool embedding = p.name.find("lora_embedding_B") != std::string::npos;
    const bool fast = p.name.find("lora_B") != std::string::npos || p.value.rank == 1;
    if (embedding) factors.push_back(settings.learning_rate > 0 ? settings.embedding_rate / settings.learning_rate : 0);
    else factors.push_back(fast ? settings.ratio : 1);
  }
  return factors;
}

}  // namespace loraine
