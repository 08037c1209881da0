// See decision_loss.h.
#include "loraine/train/objectives/decision_loss.h"

#include <algorithm>
#include <cmath>

#include "loraine/data/decisions/label_tree.h"

namespace loraine {

DecisionLoss decision_loss(std::span<const double> logprobs, size_t label, double brier) {
  DecisionLoss made;
  made.shares = shares_of(logprobs);
  const double top = *std::ranges::max_element(logprobs);
  double all = 0;
  for (const double one : logprobs) all += std::exp(one - top);
  made.nll = std::log(all) - (logprobs[label] - top);
  double mean = 0;  // Σ p (p − y)
  for (size_t i = 0; i < logprobs.size(); ++i) {
    const double apart = made.shares[i] - (i == label ? 1 : 0);
    made.brier += apart * apart;
    mean += made.shares[i] * apart;
  }
  made.loss = made.nll + brier * made.brier;
  for (size_t i = 0; i < logprobs.size(); ++i) {
    const double apart = made.shares[i] - (i == label ? 1 : 0);
    made.d.push_back(apart + brier * 2 * made.shares[i] * (apart - mean));
  }
  return made;
}

}  // namespace loraine
