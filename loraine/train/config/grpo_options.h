// Keys of stage grpo, the rules between them, and what follows from them. Called by options.cpp, rules.cpp and whoever runs the stage.
#pragma once
#include "loraine/train/config/config.h"

namespace loraine {

void describe_grpo(TrainConfig& config, const OptionVisitor& visit);
void check_grpo(const TrainConfig& config);  // usage, naming the keys

// How answers are drawn: trl's defaults for what is not given, not those of chat.
struct RolloutSampling {
  double temperature = 1, top_p = 1, min_p = 0, repetition_penalty = 1;
  int64_t top_k = 0;  // 0: all tokens
};
RolloutSampling rollout_sampling(const TrainConfig& config);

// What one generation makes: `answers` to `prompts` questions, in `steps` micro-batches.
struct GenerationSizes {
  int64_t answers = 0, prompts = 0, steps = 0;
};
GenerationSizes generation_sizes(const TrainConfig& config);
int64_t eval_generations(const TrainConfig& config);  // answers to a question of an evaluation

std::string reward_scale(const TrainConfig& config);                  // scale_rewards: group, batch or none
std::vector<double> given_reward_weights(const TrainConfig& config);  // reward_weights; empty: as the file of checks says

}  // namespace loraine
