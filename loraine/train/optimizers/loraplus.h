// LoRA+ (Hayou et al. 2024): B learns faster than A. Called by the recipe.
#pragma once
#include <span>
#include <vector>

#include "loraine/adapters/adapter.h"

namespace loraine {

struct LoraPlus {
  double ratio = 1;              // loraplus_lr_ratio: the rate of B over that of A
  double embedding_rate = 1e-6;  // loraplus_lr_embedding: the peak rate of lora_embedding_B
  double learning_rate = 0;      // the run's peak rate
};

// What the scheduled rate is multiplied by, one factor per parameter, by LLaMA-Factory's groups: `ratio` for names with lora_B and for
// vectors (DoRA's magnitudes), the embedding's own rate for lora_embedding_B, 1 for all others.
std::vector<double> loraplus_factors(std::span<const Parameter> parameters, const LoraPlus& settings);

}  // namespace loraine
