// The check reward_model: the score of a model that stage rm trained. Called by open_checks.
#pragma once
#include <memory>

#include "loraine/rollouts/checks/check.h"
#include "loraine/rollouts/checks/check_fields.h"

namespace loraine {

// `model`: the folder of an adapter with a value head (over `base`, else over the model that trains), or of a whole model with one.
std::unique_ptr<RewardCheck> reward_model_check(CheckFields& fields, const TrainConfig& config);

}  // namespace loraine
