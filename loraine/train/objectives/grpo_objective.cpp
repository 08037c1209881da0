// Log-probabilities of a micro-batch's answers to the formula's loss, and the way back.
#include "loraine/train/objectives/grpo_objective.h"

#include "loraine/core/error.h"
#include "loraine/train/config/grpo_options.h"
#include "loraine/train/objectives/label_logps.h"

namespace loraine {

bool needs_old_logps(const TrainConfig& c) {
  return c.gradient_accumulation_steps % (generation_sizes(c).steps * c.grpo.num_iterations) != 0;
}

GrpoObjective::GrpoObjective(const TrainConfig& config)
    : config_(config), temperature_(rollout_sampling(config).temperature), steps_(static_cast<double>(generation_sizes(config).steps)) {}

bool GrpoObjective::needs_side() const { return config_.grpo.beta != 0 || needs_old_logps(config_); }

double GrpoObjective::loss(const ObjectivePass& pass) {
  const std::vector<const Example*> samples = samples_of(*this, pass.items);
  const LossSums sums = policy_losses(pass, {.temperature = temperature_, .logit_means = false, .entropies = true});
  std::vector<double> logps(sums.tokens.size());
  for (size_t i = 0; i < logps.size(); ++i) logps[i] = -sums.tokens[i];
  std::vector<GrpoAnswer> answers;
  double generation_tokens = 0;
  size_t i = 0;
  for (const AnswerLogp& one : answer_logps(samples, sums)) {
    const AnswerScore* score = pass.items[i++].score;
    if (!score) throw Error(ErrorKind::internal, "stage grpo: an answer without a score");
    const auto first = static_cast<size_t>(one.first), labels = static_cast<size_t>(one.labels);
    const auto of_answer = [&](const std::vector<double>& all) { return std::span(all).subspan(first, labels); };
    answers.push_back({of_answer(logps), score->old_logps, score->reference_logps, of_answer(sums.entropies), score->advantage});
    generation_tokens = score->generation_tokens;
  }
  GrpoDivisors divisors{1, generation_tokens};
  if (pass.training()) divisors = {micro_batches_, generation_tokens * micro_batches_ / steps_};
  const GrpoLoss found = grpo_loss(config_.grpo, answers, divisors);
  if (pass.training()) {
    std::vector<float> weights(found.d_logps.size());
    for (size_t t = 0; t < weights.size(); ++t) weights[t] = static_cast<float>(-found.d_logps[t]);
    policy_backward(pass, weights, temperature_);
  }
  LoggedFigures& figures = pass.figures;  // means over the micro-batches, in trl's names
  if (config_.grpo.beta != 0) figures.add("kl", found.kl);
  figures.add("entropy", found.entropy);
  figures.add("clip_ratio/low_mean", found.low_clipped);
  figures.add("clip_ratio/low_min", found.low_clipped);
  figures.add("clip_ratio/high_mean", found.high_clipped);
  figures.add("clip_ratio/high_max", found.high_clipped);
  figures.add("clip_ratio/region_mean", found.low_clipped + found.high_clipped);
  return found.loss;
}

}  // namespace loraine
