// Which rule updates which parameter, and with what. Made from the settings before step 1 by attach().
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loraine/model/config.h"
#include "loraine/train/config/config.h"
#include "loraine/train/optimizers/blocks.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

struct Part {
  const Rule* rule = nullptr;
  double rate_factor = 1;  // times the rate of an update
  double decay = 0;        // weight decay
};

struct Recipe {
  std::vector<std::unique_ptr<const Rule>> rules;
  std::vector<Part> parts;           // one per parameter
  bool clips = true;                 // gradients are clipped by their global norm
  std::optional<BlockOrder> blocks;  // the parameters take turns
};

// transformers' rule for weight decay: not on biases and norms, by the parameter's name.
bool decays(const std::string& name);

// One rule for all; the decay by decays().
Recipe one_rule(std::unique_ptr<const Rule> rule, std::span<const Parameter> parameters, double weight_decay);

// The names of `optim`: as transformers lists them, and those that are built.
const std::vector<std::string>& optimizer_names();
const std::vector<std::string>& built_optimizer_names();

// Names that are the same rule have one form (the run record): adamw_torch_fused is adamw_torch, and so on.
std::string optimizer_form(const std::string& name);

// By optim, optim_args, optim_target_modules, loraplus_lr_ratio, use_galore, use_apollo, use_badam, use_adam_mini and use_muon.
// warmup_steps: the run's, for schedule-free rules. Throws usage where a rule does not go with a parameter.
Recipe recipe_of(const TrainConfig& config, const ModelConfig& model, std::span<const Parameter> parameters, int64_t warmup_steps);

// Rules between the settings of the optimizer; throws usage naming the keys. Called by check_train_config.
void check_optimizer(const TrainConfig& config);

}  // namespace loraine
