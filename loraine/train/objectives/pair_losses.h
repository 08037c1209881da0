// Losses over pairs of answers as formulas: of four log-probabilities, with their derivatives. The objective of stage dpo calls them.
#pragma once
#include <string>

#include "loraine/train/config/config.h"

namespace loraine {

struct PairLogps {  // sums over the labels of an answer, or means where the loss says so
  double chosen = 0, rejected = 0, reference_chosen = 0, reference_rejected = 0;
};

struct PairLoss {
  double loss = 0;
  double d_chosen = 0, d_rejected = 0;  // by the log-probabilities of the policy
};

struct PairLossKind {
  const char* name;  // pref_loss
  bool reference;    // compares with the reference
  bool means;        // takes means over the labels
  PairLoss (*of)(const PairLogps& logps, const TrainConfig& config);
};

// Throws internal for a name that is none; check_train_config has looked.
const PairLossKind& pair_loss(const std::string& pref_loss);

// BCO's loss of one pair (pref_bco_weight) against the mean reward so far.
PairLoss bco_loss(const PairLogps& logps, double beta, double mean_reward);

}  // namespace loraine
