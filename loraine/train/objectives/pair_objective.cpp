// The means of a micro-batch's pairs. Facts: LLaMA-Factory 0.9.5's stage dpo, restated.
#include "loraine/train/objectives/pair_objective.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/train/objectives/label_logps.h"

namespace loraine {
namespace {

// LD-DPO (Liu et al. 2024): labels beyond the length that both answers have count `alpha` times.
double length_desensitised(const AnswerLogp& answer, int64_t shared, double alpha, const LossSums& sums) {
  double logp = 0;
  for (int64_t i = 0; i < answer.labels; ++i) logp -= (i < shared ? 1.0 : alpha) * sums.tokens[static_cast<size_t>(answer.first + i)];
  return logp;
}

struct Pair {
  AnswerLogp chosen, rejected;
  PairLogps logps;
  double chosen_reward = 0, rejected_reward = 0;
  int64_t shared = 0;  // labels that both answers have
};

double share_of(const AnswerLogp& answer, bool means) { return means ? 1 / static_cast<double>(std::max<int64_t>(answer.labels, 1)) : 1.0; }

// Log-probabilities and rewards of the pairs; reference: of their answers, none where the loss has none.
std::vector<Pair> pairs_of(const PairLossKind& kind, const TrainConfig& config, const std::vector<AnswerLogp>& policy, const LossSums& sums,
                           const std::vector<AnswerLogp>& reference) {
  std::vector<Pair> pairs(policy.size() / 2);
  for (size_t i = 0; i < pairs.size(); ++i) {
    Pair& pair = pairs[i];
    pair.chosen = policy[2 * i];
    pair.rejected = policy[2 * i + 1];
    pair.shared = config.ld_alpha ? std::min(pair.chosen.labels, pair.rejected.labels) : INT64_MAX;
    const double alpha = config.ld_alpha.value_or(1);
    PairLogps& p = pair.logps;
    p.chosen = length_desensitised(pair.chosen, pair.shared, alpha, sums) * share_of(pair.chosen, kind.means);
    p.rejected = length_desensitised(pair.rejected, pair.shared, alpha, sums) * share_of(pair.rejected, kind.means);
    if (!reference.empty()) {  // whose labels all count in full
      p.reference_chosen = reference[2 * i].sum * share_of(pair.chosen, kind.means);
      p.reference_rejected = reference[2 * i + 1].sum * share_of(pair.rejected, kind.means);
    }
    pair.chosen_reward = config.pref_beta * (p.chosen - p.reference_chosen);
    pair.rejected_reward = config.pref_beta * (p.rejected - p.reference_rejected);
  }
  return pairs;
}

// A difference that rounding explains is none: a policy that is still its reference prefers nothing.
bool prefers_chosen(const Pair& pair, double beta) {
  const PairLogps& p = pair.logps;
  const double size = std::abs(p.chosen) + std::abs(p.rejected) + std::abs(p.reference_chosen) + std::abs(p.reference_rejected);
  return pair.chosen_reward - pair.rejected_reward > 1e-6 * beta * size;
}

// Means of the micro-batch, each of which counts the same.
template <class Of>
double mean_of(const std::vector<Pair>& pairs, const Of& of) {
  double sum = 0;
  for (const Pair& pair : pairs) sum += of(pair);
  return sum / static_cast<double>(pairs.size());
}

double mean_logit(const std::vector<Pair>& pairs, AnswerLogp Pair::*side) {  // over the rows of labels
  double sum = 0, labels = 0;
  for (const Pair& pair : pairs) {
    sum += (pair.*side).logit_sum;
    labels += static_cast<double>((pair.*side).labels);
  }
  return sum / std::max(labels, 1.0);
}

void add_figures(const std::vector<Pair>& pairs, double beta, LoggedFigures& figures) {
  figures.add("rewards/chosen", mean_of(pairs, [](const Pair& p) { return p.chosen_reward; }));
  figures.add("rewards/rejected", mean_of(pairs, [](const Pair& p) { return p.rejected_reward; }));
  figures.add("rewards/accuracies", mean_of(pairs, [&](const Pair& p) { return prefers_chosen(p, beta) ? 1.0 : 0.0; }));
  figures.add("rewards/margins", mean_of(pairs, [](const Pair& p) { return p.chosen_reward - p.rejected_reward; }));
  figures.add("logps/chosen", mean_of(pairs, [](const Pair& p) { return p.logps.chosen; }));
  figures.add("logps/rejected", mean_of(pairs, [](const Pair& p) { return p.logps.rejected; }));
  figures.add("logits/chosen", mean_logit(pairs, &Pair::chosen));
  figures.add("logits/rejected", mean_logit(pairs, &Pair::rejected));
}

}  // namespace

// The loss of a pair with what the settings add to it, and its gradient; to_mean: of the chosen answer's log p to its mean over tokens.
PairLoss PairObjective::whole_loss(const PairLogps& logps, double to_mean) const {
  PairLoss loss = kind_.of(logps, config_);
  if (const double bco = config_.pref_bco_weight; bco > 0) {
    const PairLoss more = bco_loss(logps, config_.pref_beta, mean_reward_);
    loss.loss = (loss.loss + bco * more.loss) / (1 + bco);
    loss.d_chosen = (loss.d_chosen + bco * more.d_chosen) / (1 + bco);
    loss.d_rejected = (loss.d_rejected + bco * more.d_rejected) / (1 + bco);
  }
  loss.loss -= config_.pref_ftx * logps.chosen * to_mean;
  loss.d_chosen -= config_.pref_ftx * to_mean;
  return loss;
}

double PairObjective::loss(const ObjectivePass& pass) {
  const std::vector<const Example*> samples = samples_of(*this, pass.items);
  std::vector<AnswerLogp> reference;
  if (kind_.reference) reference = answer_logps(samples, pass.reference_losses(pass.batch));
  const LossSums sums = policy_losses(pass);
  const std::vector<Pair> pairs = pairs_of(kind_, config_, answer_logps(samples, sums), sums, reference);
  const auto n = static_cast<double>(pairs.size());
  if (config_.pref_bco_weight > 0 && pass.training()) {
    const double rewards = mean_of(pairs, [](const Pair& p) { return (p.chosen_reward + p.rejected_reward) / 2; });
    mean_reward_ += (rewards - mean_reward_) / static_cast<double>(++rewards_seen_);
  }

  double total = 0, sft_loss = 0;
  const double share = 1 / (n * micro_batches_);
  std::vector<float> weights(sums.tokens.size());  // of each label's log p
  for (const Pair& pair : pairs) {
    const double to_mean = kind_.means ? 1.0 : share_of(pair.chosen, true);
    const PairLoss loss = whole_loss(pair.logps, to_mean);
    total += loss.loss;
    sft_loss -= pair.logps.chosen * to_mean;
    const auto weigh = [&](const AnswerLogp& answer, double d) {
      for (int64_t i = 0; i < answer.labels; ++i)
        weights[static_cast<size_t>(answer.first + i)] =
            static_cast<float>(-d * share * share_of(answer, kind_.means) * (i < pair.shared ? 1.0 : config_.ld_alpha.value_or(1)));
    };
    weigh(pair.chosen, loss.d_chosen);
    weigh(pair.rejected, loss.d_rejected);
  }
  if (pass.training()) policy_backward(pass, weights);
  add_figures(pairs, config_.pref_beta, pass.figures);
  if (config_.pref_loss == "orpo") {
    pass.figures.add("sft_loss", sft_loss / n);
    pass.figures.add("odds_ratio_loss", (total - sft_loss) / config_.pref_beta / n);
  }
  return total / n / (pass.training() ? micro_batches_ : 1.0);
}

std::string PairObjective::state() const {
  return rewards_seen_ == 0 ? "" : nlohmann::json({{"mean_reward", mean_reward_}, {"rewards_seen", rewards_seen_}}).dump();
}

void PairObjective::read_state(const std::string& state) {
  mean_reward_ = 0;
  rewards_seen_ = 0;
  if (state.empty()) return;
  try {
    const auto json = nlohmann::json::parse(state);
    mean_reward_ = json.at("mean_reward").get<double>();
    rewards_seen_ = json.at("rewards_seen").get<int64_t>();
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorKind::bad_data, std::string("training_state.json: objective: ") + e.what(), "resume from another checkpoint");
  }
}

}  // namespace loraine
