// VeRA (Kopiczko et al. 2024): y = W x + b + λ_b ∘ (B (λ_d ∘ (A dropout(x)))), A [r, widest in] and B [widest out, r] random, the same for
// all sites and never trained; a site takes their first columns and rows. λ_b [out] starts at 0, λ_d [r] at d_initial.
#pragma once
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_vera(MethodKeys& keys, LoraConfig& config);

}  // namespace loraine
