// From the settings of a run to the words of adapter_config.json. Called by attach().
#pragma once
#include "loraine/adapters/attach.h"
#include "loraine/train/config/config.h"

namespace loraine {

// The adapter that a run without a given one trains. Throws usage, naming the key, for a pattern or list that does not read.
LoraConfig method_config(const TrainConfig& config);

}  // namespace loraine
