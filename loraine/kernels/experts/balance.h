// The load-balancing loss of mixture-of-experts models: E · Σ_e f_e · p_e, f_e the mean number of a token's K choices that are expert e,
// p_e the mean of its softmax probability, both over the tokens of all layers together. The choices counted here are the K largest logits,
// whatever the router itself chooses by; they have no gradient.
#pragma once
#include <cstdint>
#include <vector>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

// What has been added up; one per run, made before its first step.
class BalanceSums {
 public:
  explicit BalanceSums(int64_t experts) : choices(static_cast<size_t>(experts)), probabilities(static_cast<size_t>(experts)) {}
  void clear();
  int64_t experts() const { return static_cast<int64_t>(choices.size()); }

  std::vector<double> choices, probabilities;  // of each expert
  int64_t tokens = 0;                          // a token counts in every layer
};

// Adds one layer's logits F32 [T, E], of which a token takes `per_token`.
void add_balance(Context& ctx, BalanceSums& sums, const Tensor& logits, int64_t per_token);
double balance_loss(const BalanceSums& sums);  // 0 of no tokens
// d_logits F32 [T, E] += factor · the loss's gradient into the logits of one layer, once all layers have been added.
void balance_backward(Context& ctx, const Tensor& d_logits, const Tensor& logits, const BalanceSums& sums, double factor);

}  // namespace loraine
