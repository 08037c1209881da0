// See label_tree.h.
#include "loraine/data/decisions/label_tree.h"

#include <algorithm>
#include <cmath>

namespace loraine {
namespace {

double log_sum(std::span<const float> logits) {
  const double top = static_cast<double>(*std::ranges::max_element(logits));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - top);
  return top + std::log(sum);
}

}  // namespace

std::vector<double> shares_of(std::span<const double> logprobs, double temperature) {
  const double top = *std::ranges::max_element(logprobs);
  std::vector<double> shares;
  double sum = 0;
  for (const double one : logprobs) sum += shares.emplace_back(std::exp((one - top) / temperature));
  for (double& one : shares) one /= sum;
  return shares;
}

std::vector<std::vector<int32_t>> label_beginnings(const std::vector<std::vector<int32_t>>& labels) {
  std::vector<std::vector<int32_t>> kept;
  const auto begins = [](const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
    return a.size() <= b.size() && std::equal(a.begin(), a.end(), b.begin());
  };
  for (const std::vector<int32_t>& label : labels) {
    const std::vector<int32_t> beginning(label.begin(), label.end() - 1);
    if (std::ranges::any_of(kept, [&](const auto& other) { return begins(beginning, other); })) continue;
    std::erase_if(kept, [&](const auto& other) { return begins(other, beginning); });
    kept.push_back(beginning);
  }
  return kept;
}

LabelTree::LabelTree(const std::vector<std::vector<int32_t>>& labels) : labels_(labels) {
  for (size_t label = 0; label < labels_.size(); ++label)
    for (size_t length = 0; length < labels_[label].size(); ++length) {
      const std::vector<int32_t> place(labels_[label].begin(), labels_[label].begin() + static_cast<std::ptrdiff_t>(length));
      const auto at = static_cast<size_t>(std::ranges::find(places_, place) - places_.begin());
      if (at == places_.size()) {
        places_.push_back(place);
        next_.emplace_back();
      }
      next_[at].emplace_back(label, labels_[label][length]);
    }
  for (const auto& one : next_) logprobs_.emplace_back(one.size());
}

void LabelTree::tell(size_t place, std::span<const float> logits) {
  const double all = log_sum(logits);
  for (size_t i = 0; i < next_[place].size(); ++i)
    logprobs_[place][i] = static_cast<double>(logits[static_cast<size_t>(next_[place][i].second)]) - all;
}

std::vector<double> LabelTree::logprobs() const {
  std::vector<double> logprobs(labels_.size());
  for (size_t place = 0; place < places_.size(); ++place)
    for (size_t i = 0; i < next_[place].size(); ++i) logprobs[next_[place][i].first] += logprobs_[place][i];
  return logprobs;
}

LabelShares LabelTree::shares(std::optional<double> temperature) const {
  const std::vector<double> all = logprobs();
  LabelShares shares;
  shares.probabilities = shares_of(all, temperature.value_or(1));
  shares.calibrated = temperature.has_value();
  const double top = *std::ranges::max_element(all);
  double sum = 0;
  for (const double one : all) sum += std::exp(one - top);
  shares.mass = std::exp(top) * sum;
  shares.likeliest = static_cast<size_t>(std::ranges::max_element(shares.probabilities) - shares.probabilities.begin());
  return shares;
}

void LabelTree::backward(size_t place, std::span<float> logits, std::span<const double> d) const {
  double through = 0;  // of all labels: through the first place all of them go, and their sum is 0
  if (place > 0)
    for (const auto& [label, id] : next_[place]) through += d[label];
  if (through == 0) {
    std::ranges::fill(logits, 0.0f);
  } else {
    const double all = log_sum(logits);
    for (float& logit : logits) logit = static_cast<float>(-through * std::exp(static_cast<double>(logit) - all));
  }
  for (const auto& [label, id] : next_[place]) logits[static_cast<size_t>(id)] += static_cast<float>(d[label]);
}

}  // namespace loraine
