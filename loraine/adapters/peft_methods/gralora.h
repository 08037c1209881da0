// GraLoRA (Jung et al. 2025): y = W x + b + s D x, D of k × k blocks, each a product of its own of rank r / k, s = alpha / (r + hybrid_r).
// PEFT's gralora_A [k, in / k, r] has for each piece of the input the right factors of all blocks that read it, gralora_B [k, r, out / k]
// for each piece of the output the left factors of all that write it. With hybrid_r LoRA's product of that rank is added.
#pragma once
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_gralora(MethodKeys& keys, LoraConfig& config);

}  // namespace loraine
