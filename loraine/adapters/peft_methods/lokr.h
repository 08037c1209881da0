// LoKr (Yeh et al. 2024, LyCORIS): y = W x + b + s (w₁ ⊗ w₂) x, s = alpha / r, each factor whole or a product of rank r, in PEFT's shapes.
// The Kronecker product is never made but in a merge.
#pragma once
#include <utility>

#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_lokr(MethodKeys& keys, LoraConfig& config);

// n = first · second as LyCORIS factors it, first ≤ second unless `factor` divides n: near `factor`, −1: near the root of n.
std::pair<int64_t, int64_t> kronecker_factors(int64_t n, int64_t factor);

}  // namespace loraine
