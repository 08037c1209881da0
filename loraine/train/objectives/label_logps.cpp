// The gradient of every label's −log p by itself, times its weight once that is known.
#include "loraine/train/objectives/label_logps.h"

#include <cmath>

#include "loraine/data/examples/batcher.h"
#include "loraine/kernels/rows/row_factors.h"
#include "loraine/train/gpu/gpu_losses.h"

namespace loraine {

std::vector<AnswerLogp> answer_logps(std::span<const Example* const> samples, const LossSums& sums) {
  std::vector<AnswerLogp> answers;
  size_t sequence = 0, label = 0;
  for (const Example* sample : samples) {
    AnswerLogp& one = answers.emplace_back();
    one.first = static_cast<int64_t>(label);
    if (example_rows(*sample) == 0) continue;
    one.labels = sums.by_sequence[sequence++].labels;
    for (int64_t i = 0; i < one.labels; ++i, ++label) {
      one.sum -= sums.tokens[label];
      if (!sums.logit_means.empty()) one.logit_sum += sums.logit_means[label];
    }
  }
  return answers;
}

LossSums policy_losses(const ObjectivePass& pass, const LogpOptions& taken) {
  LossOptions options{pass.set, pass.training()};
  options.logit_means = taken.logit_means;
  options.entropies = taken.entropies;
  options.temperature = taken.temperature;
  options.trained_rows = pass.trained_rows;
  if (pass.gpu) return losses_on_gpu(*pass.gpu, pass.batch, {}, pass.training() ? 1.0f : 0.0f, taken.logit_means);
  const bool with_gradient = pass.training() && !changes_head(pass.set);
  return loss_and_head_gradient(pass.ctx, pass.model, pass.batch, pass.hidden, pass.d_hidden, with_gradient ? 1.0f : 0.0f, options,
                                pass.scratch);
}

void policy_backward(const ObjectivePass& pass, std::span<const float> weights, double temperature) {
  if (changes_head(pass.set)) {
    LossOptions options{pass.set, true};
    options.row_weights = weights;
    options.temperature = temperature;
    options.trained_rows = pass.trained_rows;
    loss_and_head_gradient(pass.ctx, pass.model, pass.batch, pass.hidden, pass.d_hidden, 1, options, pass.scratch);
    return;
  }
  std::vector<float> of_rows(static_cast<size_t>(pass.batch.rows()), 0.0f);
  size_t i = 0;
  for (size_t t = 0; t < of_rows.size(); ++t)
    if (pass.batch.labels[t] != kIgnoreLabel) of_rows[t] = weights[i++];
  if (pass.gpu) pass.gpu->scale_gradients(of_rows);
  else scale_rows(pass.ctx, pass.d_hidden, of_rows);
}

double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

}  // namespace loraine
