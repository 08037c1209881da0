// The loss of one decision as a formula of its choices' log-probabilities. Called by decision_objective.cpp.
#pragma once
#include <span>
#include <vector>

namespace loraine {

struct DecisionLoss {
  double loss = 0, nll = 0, brier = 0;
  std::vector<double> shares;  // of the choices, together 1
  std::vector<double> d;       // of the loss by each log-probability; their sum is 0
};

// With p = softmax(logprobs) and y = 1 for the label alone: loss = −log p[label] + brier · Σ (p − y)².
DecisionLoss decision_loss(std::span<const double> logprobs, size_t label, double brier);

}  // namespace loraine
