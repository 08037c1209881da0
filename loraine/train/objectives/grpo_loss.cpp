// The ratio r of new to old probability, clipped, times the advantage; plus beta times the divergence; over the tokens that loss_type says.
#include "loraine/train/objectives/grpo_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace loraine {
namespace {

// −min(min(r, delta) · A, clip(r) · A), and its derivative by log r.
struct ClippedRatio {
  double loss = 0, derivative = 0;
  bool low = false, high = false;
};

ClippedRatio clipped_ratio(const GrpoConfig& c, double log_ratio, double advantage) {
  const double ratio = std::exp(log_ratio), low = 1 - c.epsilon, high = 1 + c.epsilon_high.value_or(c.epsilon);
  const double bounded = c.delta ? std::min(ratio, *c.delta) : ratio, clipped = std::clamp(ratio, low, high);
  const double first = bounded * advantage, second = clipped * advantage;
  const double d_first = c.delta && ratio > *c.delta ? 0 : ratio * advantage;
  const double d_second = ratio >= low && ratio <= high ? ratio * advantage : 0;
  const double d = first < second ? d_first : second < first ? d_second : (d_first + d_second) / 2;
  return {-std::min(first, second), -d, bounded < low && advantage<0, bounded> high && advantage > 0};
}

// The entropy from which on a token counts: the (1 − share) quantile over the micro-batch, between two where it falls between them. In f32,
// as torch.quantile: where it falls on a token, the rounding decides whether that one counts.
float least_entropy(std::span<const GrpoAnswer> answers, double share) {
  std::vector<float> all;
  for (const GrpoAnswer& answer : answers)
    for (const double entropy : answer.entropies) all.push_back(static_cast<float>(entropy));
  if (all.empty()) return 0;
  std::ranges::sort(all);
  const float place = static_cast<float>(1 - share) * static_cast<float>(all.size() - 1), below = std::floor(place), part = place - below;
  const auto at = static_cast<size_t>(below);
  const float low = all[at], high = all[std::min(at + 1, all.size() - 1)];
  return part < 0.5f ? low + part * (high - low) : high - (high - low) * (1 - part);
}

// What the loss of a token of an answer with n of them is multiplied with; `labels` of them in the micro-batch.
double token_weight(const GrpoConfig& c, double n, double labels, double answers, const GrpoDivisors& divisors) {
  if (c.loss_type == "grpo") return 1 / (std::max(n, 1.0) * answers * divisors.micro_batches);
  if (c.loss_type == "bnpo") return 1 / (std::max(labels, 1.0) * divisors.micro_batches);
  if (c.loss_type == "dr_grpo") return 1 / (answers * static_cast<double>(c.max_completion_length) * divisors.micro_batches);
  return 1 / std::max(divisors.tokens, 1.0);
}

// Of one answer.
void add_answer(const GrpoConfig& c, const GrpoAnswer& answer, double weight, float least, GrpoLoss& sums) {
  const size_t n = answer.logps.size();
  const bool by_token = c.importance_sampling_level == "token";
  const auto log_ratio = [&](size_t t) { return answer.old.empty() ? 0.0 : answer.logps[t] - answer.old[t]; };
  double mean = 0;
  for (size_t t = 0; t < n && !by_token; ++t) mean += log_ratio(t) / static_cast<double>(n);
  const ClippedRatio whole = clipped_ratio(c, mean, answer.advantage);
  if (!by_token) {
    sums.low_clipped += whole.low ? 1 : 0;
    sums.high_clipped += whole.high ? 1 : 0;
  }
  double of_answer = 0;  // derivative by the mean of log ratios
  const size_t first = sums.d_logps.size();
  for (size_t t = 0; t < n; ++t) {
    const ClippedRatio one = by_token ? clipped_ratio(c, log_ratio(t), answer.advantage) : whole;
    const double counts = c.top_entropy_quantile < 1 && static_cast<float>(answer.entropies[t]) < least ? 0 : 1;
    double loss = counts * one.loss, d = by_token ? counts * one.derivative : 0;
    if (!by_token) of_answer += weight * counts * one.derivative;
    if (by_token) {
      sums.low_clipped += one.low ? 1 : 0;
      sums.high_clipped += one.high ? 1 : 0;
    }
    if (c.beta != 0) {  // Schulman's k3: e^x − x − 1, x = log p_ref − log p
      const double x = answer.reference[t] - answer.logps[t], divergence = std::exp(x) - x - 1;
      loss += c.beta * divergence;
      d += c.beta * (1 - std::exp(x));
      sums.kl += divergence;
    }
    sums.entropy += answer.entropies[t];
    sums.loss += weight * loss;
    sums.d_logps.push_back(weight * d);
  }
  for (size_t t = first; t < sums.d_logps.size() && !by_token; ++t) sums.d_logps[t] += of_answer / static_cast<double>(n);
}

}  // namespace

GrpoLoss grpo_loss(const GrpoConfig& c, std::span<const GrpoAnswer> answers, const GrpoDivisors& divisors) {
  double labels = 0;
  for (const GrpoAnswer& answer : answers) labels += static_cast<double>(answer.logps.size());
  const auto n = static_cast<double>(answers.size());
  const float least = c.top_entropy_quantile < 1 ? least_entropy(answers, c.top_entropy_quantile) : 0;
  GrpoLoss sums;
  for (const GrpoAnswer& answer : answers)
    add_answer(c, answer, token_weight(c, static_cast<double>(answer.logps.size()), labels, n, divisors), least, sums);
  const double ratios = c.importance_sampling_level == "token" ? std::max(labels, 1.0) : n;
  sums.kl /= std::max(labels, 1.0);
  sums.entropy /= std::max(labels, 1.0);
  sums.low_clipped /= ratios;
  sums.high_clipped /= ratios;
  return sums;
}

Spread spread_of(std::span<const double> numbers) {
  double sum = 0, squares = 0, n = 0;
  for (const double x : numbers)
    if (!std::isnan(x)) sum += x, n += 1;
  const double none = std::numeric_limits<double>::quiet_NaN(), mean = n > 0 ? sum / n : none;
  for (const double x : numbers)
    if (!std::isnan(x)) squares += (x - mean) * (x - mean);
  return {mean, n > 1 ? std::sqrt(squares / (n - 1)) : none};
}

Advantages advantages_of(std::span<const double> rewards, int64_t group, const std::string& scale) {
  constexpr double kBesideDeviation = 1e-4, kNoDeviation = 1e-8;  // torch.isclose to 0
  Advantages all;
  const auto n = static_cast<double>(rewards.size());
  const double of_all = rewards.size() > 1 ? spread_of(rewards).deviation : 0;
  for (size_t first = 0; first < rewards.size(); first += static_cast<size_t>(group)) {
    const std::span<const double> own = rewards.subspan(first, std::min(static_cast<size_t>(group), rewards.size() - first));
    const Spread spread = spread_of(own);
    const double deviation = scale == "batch" ? of_all : own.size() > 1 ? spread.deviation : 0;
    for (const double reward : own) {
      all.values.push_back((reward - spread.mean) / (scale == "none" ? 1 : deviation + kBesideDeviation));
      all.reward += spread.mean / n;
      all.reward_std += deviation / n;
      all.zero_std += (deviation <= kNoDeviation ? 1 : 0) / n;
    }
  }
  return all;
}

}  // namespace loraine
