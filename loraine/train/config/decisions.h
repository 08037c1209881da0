// Keys of stage decision, and the rules between them. Called by options.cpp and rules.cpp.
#pragma once
#include "loraine/train/config/config.h"

namespace loraine {

void describe_decisions(TrainConfig& config, const OptionVisitor& visit);
void check_decisions(const TrainConfig& config);  // usage, naming the keys

// Whether decision_holdout takes rows out of training: stage decision without other rows to evaluate on.
bool holds_out(const TrainConfig& config);

}  // namespace loraine
