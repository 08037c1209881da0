// The loss of stage grpo as a formula: of log-probabilities by token, with its derivatives; and advantages of rewards. The objective and
// whoever judges answers call them. Facts: trl 0.24's GRPOTrainer, restated.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loraine/train/config/config.h"

namespace loraine {

// One answer of a micro-batch, by its labels. `old` and `reference` are empty where the policy itself stands for the old one, and where
// there is no reference.
struct GrpoAnswer {
  std::span<const double> logps, old, reference, entropies;
  double advantage = 0;
};

// Over what a micro-batch's loss is taken.
struct GrpoDivisors {
  double micro_batches = 1;  // of the update
  double tokens = 1;         // loss_type dapo: of the whole update
};

struct GrpoLoss {
  double loss = 0;              // the micro-batch's share of that of the update
  std::vector<double> d_logps;  // by the log p of each label, the answers in their order
  double kl = 0, entropy = 0;   // means over the labels
  double low_clipped = 0,
         high_clipped = 0;  // shares of labels (of answers, where the ratio is one for each) whose ratio lies out of bounds
};

GrpoLoss grpo_loss(const GrpoConfig& config, std::span<const GrpoAnswer> answers, const GrpoDivisors& divisors);

// What each answer's reward is worth beside those of its group, in groups of `group` answers that lie side by side.
struct Advantages {
  std::vector<double> values;
  double reward = 0, reward_std = 0;  // means over the answers: of the rewards, of what they are divided by (before 1e-4 is added)
  double zero_std = 0;                // share of answers whose deviation is 0: nothing is learnt from them
};
Advantages advantages_of(std::span<const double> rewards, int64_t group, const std::string& scale);

// Mean and deviation (n − 1) of the numbers that are any; NaN where there is none, or one alone for the deviation.
struct Spread {
  double mean = 0, deviation = 0;
};
Spread spread_of(std::span<const double> numbers);

}  // namespace loraine
