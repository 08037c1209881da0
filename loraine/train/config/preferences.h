// Keys of the stages that train from preferences (dpo, kto, rm), and the rules between them. Called by options.cpp and rules.cpp.
#pragma once
#include "loraine/train/config/config.h"

namespace loraine {

void describe_preferences(TrainConfig& config, const OptionVisitor& visit);
void check_preferences(const TrainConfig& config);  // usage, naming the keys

}  // namespace loraine
