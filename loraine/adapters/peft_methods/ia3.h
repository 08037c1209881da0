// (IA)³ (Liu et al. 2022): y = l ∘ (W x + b), l [out]; at modules of feedforward_modules y = W (l ∘ x) + b, l [in]. l starts at 1.
#pragma once
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_ia3(MethodKeys& keys, LoraConfig& config);

}  // namespace loraine
