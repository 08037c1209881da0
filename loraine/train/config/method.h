// From the settings of a run to the words of adapter_config.json. Called by attach().
#pragma once
#include "loraine/adapters/attach.h"
#include "loraine/train/config/config.h"

namespace loraine {

// The adapter that a run without a given one trains. Throws usage, naming the key, for a pattern or list that does not read.
LoraConfig method_config(const TrainConfig& config);

// The layers that LLaMA Pro's expansion put in: the last of each of `count` equal stretches. Throws usage where they are not equal.
std::vector<int64_t> llama_pro_layers(int64_t layers, int64_t count);

}  // namespace loraine
