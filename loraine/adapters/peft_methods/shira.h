// SHiRA (Bhardwaj et al. 2024): y = (W + S) x + b, S sparse: r (in + out) places of the weight, drawn at random as PEFT draws them and
// never changed, have a trained value each. The values start at 0 (init_weights false: normal); the places are in the file (shira_indices,
// I32).
#pragma once
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_shira(MethodKeys& keys, LoraConfig& config);

}  // namespace loraine
