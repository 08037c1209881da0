// Which objective the settings ask for. To add one: its pair of files, and a line here.
#include "loraine/core/error.h"
#include "loraine/train/objectives/decision_objective.h"
#include "loraine/train/objectives/grpo_objective.h"
#include "loraine/train/objectives/kto_objective.h"
#include "loraine/train/objectives/objective.h"
#include "loraine/train/objectives/pair_objective.h"
#include "loraine/train/objectives/reward_objective.h"
#include "loraine/train/objectives/token_objective.h"

namespace loraine {

std::unique_ptr<Objective> make_objective(const TrainConfig& config) {
  if (config.stage == "dpo") return std::make_unique<PairObjective>(config);
  if (config.stage == "kto") return std::make_unique<KtoObjective>(config);
  if (config.stage == "decision") return std::make_unique<DecisionObjective>(config);
  if (config.stage == "grpo") return std::make_unique<GrpoObjective>(config);
  if (config.stage == "rm") return std::make_unique<RewardObjective>();
  return std::make_unique<TokenObjective>(config);
}

bool compares_with_reference(const TrainConfig& config) {
  if (config.stage == "dpo") return pair_loss(config.pref_loss).reference;
  if (config.stage == "grpo") return config.grpo.beta != 0;
  return config.stage == "kto" || config.use_asft_loss;
}

}  // namespace loraine
