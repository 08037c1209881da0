// LoHa (Hyeon-Woo et al. 2022, FedPara): y = W x + b + s (A₁ B₁ ∘ A₂ B₂) x, s = alpha / r. The product by elements of two matrices of rank
// r has rank r²: with the columns A₁[:, i] ∘ A₂[:, j] and the rows B₁[i] ∘ B₂[j] it is LoRA's, and runs as such.
#pragma once
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_loha(MethodKeys& keys, LoraConfig& config);

// What LoHa and LoKr have in common: rank_dropout and module_dropout, which act in training alone.
struct LycorisDropout {
  double rank = 0, module = 0;
  static LycorisDropout read(MethodKeys& keys) { return {keys.share("rank_dropout"), keys.share("module_dropout")}; }
  void check(bool trained) const;  // unsupported in training
};

}  // namespace loraine
