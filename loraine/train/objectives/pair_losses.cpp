// Each loss as its paper has it. d is how much more the policy prefers the chosen answer than the reference does.
#include "loraine/train/objectives/pair_losses.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "loraine/core/error.h"
#include "loraine/train/objectives/label_logps.h"

namespace loraine {
namespace {

double margin(const PairLogps& p) { return p.chosen - p.rejected - (p.reference_chosen - p.reference_rejected); }

// DPO (Rafailov et al. 2023), with label smoothing its conservative form: −(1 − ε) log σ(β d) − ε log σ(−β d)
PairLoss sigmoid_loss(const PairLogps& p, const TrainConfig& c) {
  const double x = c.pref_beta * margin(p), e = c.dpo_label_smoothing;
  const double d = c.pref_beta * (e * sigmoid(x) - (1 - e) * sigmoid(-x));
  return {-(1 - e) * log_sigmoid(x) - e * log_sigmoid(-x), d, -d};
}

// SLiC (Zhao et al. 2023): max(0, 1 − β d)
PairLoss hinge_loss(const PairLogps& p, const TrainConfig& c) {
  const double slack = 1 - c.pref_beta * margin(p);
  const double d = slack > 0 ? -c.pref_beta : 0;
  return {std::max(slack, 0.0), d, -d};
}

// IPO (Azar et al. 2023): (d − 1 / (2 β))²
PairLoss ipo_loss(const PairLogps& p, const TrainConfig& c) {
  const double off = margin(p) - 1 / (2 * c.pref_beta);
  return {off * off, 2 * off, -2 * off};
}

// ORPO (Hong et al. 2024): −p − β log σ(log odds of the chosen − log odds of the rejected), log odds = p − log(1 − e^p).
// An answer that is certain has no finite odds.
PairLoss orpo_loss(const PairLogps& p, const TrainConfig& c) {
  constexpr double kCertain = -1e-9;
  const double chosen = std::min(p.chosen, kCertain), rejected = std::min(p.rejected, kCertain);
  const double x = chosen - rejected - (std::log(-std::expm1(chosen)) - std::log(-std::expm1(rejected)));
  const double d = -c.pref_beta * sigmoid(-x);
  return {-p.chosen - c.pref_beta * log_sigmoid(x), -1 + d / -std::expm1(chosen), -d / -std::expm1(rejected)};
}

// SimPO (Meng et al. 2024): −log σ(β (chosen − rejected) − γ)
PairLoss simpo_loss(const PairLogps& p, const TrainConfig& c) {
  const double x = c.pref_beta * (p.chosen - p.rejected) - c.simpo_gamma;
  const double d = -c.pref_beta * sigmoid(-x);
  return {-log_sigmoid(x), d, -d};
}

constexpr PairLossKind kKinds[] = {{"sigmoid", true, false, sigmoid_loss},
                                   {"hinge", true, false, hinge_loss},
                                   {"ipo", true, true, ipo_loss},
                                   {"orpo", false, true, orpo_loss},
                                   {"simpo", false, true, simpo_loss}};

}  // namespace

const PairLossKind& pair_loss(const std::string& pref_loss) {
  const auto* const found = std::ranges::find_if(kKinds, [&](const PairLossKind& kind) { return kind.name == pref_loss; });
  if (found == std::end(kKinds)) throw Error(ErrorKind::internal, "pref_loss: there is no '" + pref_loss + "'");
  return *found;
}

PairLoss bco_loss(const PairLogps& p, double beta, double mean_reward) {
  const double chosen = beta * (p.chosen - p.reference_chosen) - mean_reward,
               rejected = beta * (p.rejected - p.reference_rejected) - mean_reward;
  return {-log_sigmoid(chosen) - log_sigmoid(-rejected), -beta * sigmoid(-chosen), beta * sigmoid(rejected)};
}

}  // namespace loraine
