// HiRA (Huang et al. 2025): y = W x + b + (W ∘ (B A)) dropout(x), A [r, in], B [out, r]: by Hadamard's product with W the change has a high
// rank. A starts as nn.Linear's weight (init_weights gaussian: normal of deviation 1 / r), B at 0; init_weights false: both normal.
#pragma once
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_hira(MethodKeys& keys, LoraConfig& config);

}  // namespace loraine
