// Log-probabilities of answers, and the way back from them: what objectives over whole answers are made of.
#pragma once
#include "loraine/train/objectives/objective.h"

namespace loraine {

// One sample's labels, of which logps names the places.
struct AnswerLogp {
  double sum = 0;                 // Σ log p
  int64_t first = 0, labels = 0;  // its labels among those of the batch
  double logit_sum = 0;           // of the means of their rows' logits
  double mean() const { return labels ? sum / static_cast<double>(labels) : 0; }
};

// Of each sample, in their order; one without rows has no labels.
std::vector<AnswerLogp> answer_logps(std::span<const Example* const> samples, const LossSums& sums);

// What is taken of the logits beside −log p.
struct LogpOptions {
  double temperature = 1;  // that they are divided by
  bool logit_means = true, entropies = false;
};

// The policy's −log p by label. While training d_hidden gets their gradient, where the head is the base's.
LossSums policy_losses(const ObjectivePass& pass, const LogpOptions& taken = {});
// d_hidden = the gradient of Σ weights[i] · (−log p of label i) (labels in the order of policy_losses). Where the head trains too its
// products are done once more, since its gradients need the weights.
void policy_backward(const ObjectivePass& pass, std::span<const float> weights, double temperature = 1);

double log_sigmoid(double x);
double sigmoid(double x);

}  // namespace loraine
