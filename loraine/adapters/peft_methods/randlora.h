// RandLoRA (Albert et al. 2025): y = W x + b + s B U x where the module has no more inputs than outputs, else s Uᵀ Bᵀ x; U has the rows
// λ[k, j] γ[j] ∘ A[k] of all k < r and j < n = ⌈narrow / r⌉, so that the sum of n products of rank r has full rank; s = alpha / r. A [r, 1,
// m] and B [M, N, r] are random, the same for all modules and never trained; a module takes their first numbers. PEFT counts the rows of U
// as k·n + j and the columns of B that they meet as j·r + k. λ [r, n] starts at 0, γ [n, narrow] at 1 / max(n, narrow).
#pragma once
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_randlora(MethodKeys& keys, LoraConfig& config);

}  // namespace loraine
