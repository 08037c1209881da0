// Facts: LLaMA-Factory 0.9.5's stage kto, restated.
#include "loraine/train/objectives/kto_objective.h"

#include <algorithm>

#include "loraine/data/examples/batcher.h"
#include "loraine/train/objectives/label_logps.h"

namespace loraine {

double KtoObjective::loss(const ObjectivePass& pass) {
  const size_t n = pass.items.size();
  const std::vector<const Example*> samples = samples_of(*this, pass.items);
  std::vector<const Example*> others;
  for (const Item& item : pass.items) beside_samples(item, others);

  std::vector<const Example*> both = samples;
  both.insert(both.end(), others.begin(), others.end());
  const LossSums sums = policy_losses(pass);
  const std::vector<AnswerLogp> policy = answer_logps(samples, sums);
  // How far the policy is from the reference, on answers that do not belong to their prompts; no gradient flows through it.
  std::vector<AnswerLogp> policy_others, reference;
  if (share_up_to() > 0) {
    const std::vector<AnswerLogp> all = answer_logps(both, sums);
    policy_others.assign(all.begin() + static_cast<ptrdiff_t>(n), all.end());
    reference = answer_logps(both, pass.reference_losses(pass.batch));
  } else {
    policy_others = answer_logps(others, pass.side->label_losses(pass.ctx, make_batch(others), pass.set != nullptr));
    reference = answer_logps(both, pass.reference_losses(make_batch(both)));
  }
  double kl = 0;
  for (size_t i = 0; i < n; ++i) kl += (policy_others[i].sum - reference[n + i].sum) / static_cast<double>(n);
  kl = std::max(kl, 0.0);

  const double beta = config_.pref_beta;
  double total = 0, chosen = 0, with_labels = 0, sft_loss = 0;
  for (size_t i = 0; i < n; ++i) {
    if (!pass.items[i].desirable) continue;
    chosen += 1;
    if (policy[i].labels == 0) continue;
    with_labels += 1;
    sft_loss -= policy[i].mean();
  }
  // The mean over the good answers, divided by their number once more, times that of all, as there.
  const double ftx = with_labels > 0 ? config_.pref_ftx / with_labels / chosen * static_cast<double>(n) : 0;
  std::vector<float> weights(sums.tokens.size());
  for (size_t i = 0; i < n; ++i) {
    const AnswerLogp& answer = policy[i];
    const bool good = pass.items[i].desirable;
    const double weight = good ? config_.kto_chosen_weight : config_.kto_rejected_weight;
    const double reward = beta * (answer.sum - reference[i].sum), side = good ? 1 : -1;
    const double worth = sigmoid(side * (reward - beta * kl));
    total += weight * (1 - worth) / static_cast<double>(n);
    double d = -side * weight * beta * worth * (1 - worth) / static_cast<double>(n);  // by the sum of log p
    if (good && answer.labels > 0) d -= ftx / static_cast<double>(answer.labels);
    for (int64_t k = 0; k < answer.labels; ++k) weights[static_cast<size_t>(answer.first + k)] = static_cast<float>(-d / micro_batches_);
    const std::string name = good ? "/chosen" : "/rejected";
    pass.figures.add("rewards" + name, reward);
    pass.figures.add("logps" + name, answer.sum);
    pass.figures.add("logits" + name, answer.logit_sum, static_cast<double>(answer.labels));
  }
  total += ftx * sft_loss;
  pass.figures.add_up("kl", kl);
  if (pass.training()) policy_backward(pass, weights);
  return total / (pass.training() ? micro_batches_ : 1.0);
}

void KtoObjective::complete(OrderedJson& values) const {
  if (values.contains("rewards/chosen") && values.contains("rewards/rejected"))
    values["rewards/margins"] = values["rewards/chosen"].get<double>() - values["rewards/rejected"].get<double>();
}

}  // namespace loraine
