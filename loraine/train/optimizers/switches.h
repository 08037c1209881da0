// Optimizers that LLaMA-Factory switches on with keys of their own, and transformers' low-rank ones. Called by recipe.cpp.
#pragma once
#include "loraine/model/config.h"
#include "loraine/train/optimizers/recipe.h"

namespace loraine {

// use_galore, use_apollo, use_badam, use_adam_mini, use_muon, or a name of `optim` that begins with galore or apollo.
bool is_switched(const TrainConfig& config);
Recipe switched_recipe(const TrainConfig& config, const ModelConfig& model, std::span<const Parameter> parameters);
void check_switches(const TrainConfig& config);  // throws usage naming the keys

// low_rank_recipe.cpp: GaLore and APOLLO
Recipe low_rank_recipe(const TrainConfig& config, std::span<const Parameter> parameters);
void check_low_rank(const TrainConfig& config);

}  // namespace loraine
