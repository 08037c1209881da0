// See sampling.h.
#include "loraine/generate/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace loraine {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

float& at(std::span<float> logits, int32_t id) { return logits[static_cast<size_t>(id)]; }

void keep_allowed(std::span<float> logits, const std::vector<int32_t>& allowed) {
  if (allowed.empty()) return;
  std::vector<std::pair<int32_t, float>> kept;
  for (const int32_t id : allowed) kept.emplace_back(id, at(logits, id));
  std::fill(logits.begin(), logits.end(), kNever);
  for (const auto& [id, logit] : kept) at(logits, id) = logit;
}

// The last id of each bad word whose other ids the answer ends with.
void leave_out_bad_words(std::span<float> logits, std::span<const int32_t> answer, const std::vector<std::vector<int32_t>>& words) {
  for (const std::vector<int32_t>& word : words) {
    const size_t before = word.size() - 1;
    if (before <= answer.size() && std::equal(word.begin(), word.end() - 1, answer.end() - static_cast<ptrdiff_t>(before)))
      at(logits, word.back()) = kNever;
  }
}

void penalise_answer(std::span<float> logits, std::span<const int32_t> answer, double frequency, double presence) {
  if (frequency == 0 && presence == 0) return;
  std::map<int32_t, int64_t> times;
  for (const int32_t id : answer) ++times[id];
  for (const auto& [id, count] : times)
    at(logits, id) = static_cast<float>(at(logits, id) - frequency * static_cast<double>(count) - presence);
}

// Ids from the likeliest on, sorted as far as somebody looks.
class ByLikelihood {
 public:
  explicit ByLikelihood(std::span<const float> logits) : logits_(logits), ids_(logits.size()) { std::iota(ids_.begin(), ids_.end(), 0); }
  int32_t operator[](size_t place) {
    while (place >= sorted_) sort_more(std::min(ids_.size(), std::max<size_t>(64, sorted_ * 4)));
    return ids_[place];
  }

 private:
  void sort_more(size_t to) {
    const auto first = ids_.begin() + static_cast<ptrdiff_t>(sorted_), last = ids_.begin() + static_cast<ptrdiff_t>(to);
    std::partial_sort(first, last, ids_.end(), [&](int32_t a, int32_t b) {
      const float x = logits_[static_cast<size_t>(a)], y = logits_[static_cast<size_t>(b)];
      return x > y || (x == y && a < b);
    });
    sorted_ = to;
  }
  std::span<const float> logits_;
  std::vector<int32_t> ids_;
  size_t sorted_ = 0;
};

// Temperature, min_p, top_k, top_p and the draw.
int32_t draw(std::span<const float> logits, const GenerateOptions& o, std::mt19937_64& random) {
  const double top = *std::max_element(logits.begin(), logits.end());
  const auto weight = [&](int32_t id) { return std::exp((logits[static_cast<size_t>(id)] - top) / o.temperature); };
  const auto size = static_cast<int32_t>(logits.size());
  const auto one_of = [&](double mass, auto&& id_at, size_t count) {
    double pick = std::uniform_real_distribution<double>(0, mass)(random);
    int32_t last = id_at(0);
    for (size_t i = 0; i < count; ++i) {
      const int32_t id = id_at(i);
      const double w = weight(id);
      if (w > 0) last = id;
      if ((pick -= w) <= 0 && w > 0) return id;
    }
    return last;
  };
  if (o.top_k <= 0 && o.top_p >= 1 && o.min_p <= 0) {  // everything stays, in whatever order
    double sum = 0;
    for (int32_t id = 0; id < size; ++id) sum += weight(id);
    return one_of(
        sum, [](size_t i) { return static_cast<int32_t>(i); }, logits.size());
  }
  ByLikelihood order(logits);
  double sum = 0;
  size_t keep = logits.size();
  if (o.top_k > 0 || o.min_p > 0) {
    const size_t most = o.top_k > 0 ? std::min(static_cast<size_t>(o.top_k), keep) : keep;
    for (keep = 0; keep < most; ++keep) {
      const double w = weight(order[keep]);
      if (keep > 0 && w < o.min_p) break;
      sum += w;
    }
  } else {
    for (int32_t id = 0; id < size; ++id) sum += weight(id);
  }
  double mass = 0;
  size_t kept = 0;
  while (kept < keep && (kept == 0 || mass < o.top_p * sum)) mass += weight(order[kept++]);
  return one_of(
      mass, [&](size_t i) { return order[i]; }, kept);
}

}  // namespace

TokenLogprobs token_logprobs(std::span<const float> logits, int32_t id, int64_t count) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - top);
  const double shift = top + std::log(sum);
  const auto logprob = [&](int32_t one) { return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(one)]) - shift); };
  TokenLogprobs out{id, logprob(id), 1, {}};
  const float own = logits[static_cast<size_t>(id)];
  out.rank += std::ranges::count_if(logits, [&](float x) { return x > own; });
  if (count <= 0) return out;
  ByLikelihood order(logits);
  for (size_t i = 0; i < std::min(static_cast<size_t>(count), logits.size()); ++i) out.top.emplace_back(order[i], logprob(order[i]));
  return out;
}

void penalise_repetition(std::span<float> logits, std::span<const int32_t> seen, double penalty) {
  if (penalty == 1.0) return;
  std::vector<int32_t> ids(seen.begin(), seen.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  for (int32_t id : ids) {
    float& x = logits[static_cast<size_t>(id)];
    x = static_cast<float>(x < 0 ? x * penalty : x / penalty);
  }
}

int32_t sample(std::span<float> logits, std::span<const int32_t> seen, size_t prompt_length, const GenerateOptions& o,
               std::mt19937_64& random) {
  const std::span<const int32_t> answer = seen.subspan(prompt_length);
  keep_allowed(logits, o.allowed_ids);
  leave_out_bad_words(logits, answer, o.bad_words);
  if (static_cast<int64_t>(answer.size()) < o.min_tokens)
    for (const int32_t id : o.stop_ids) at(logits, id) = kNever;
  for (const auto& [id, bias] : o.logit_bias) at(logits, id) += bias;
  penalise_repetition(logits, seen, o.repetition_penalty);
  penalise_answer(logits, answer, o.frequency_penalty, o.presence_penalty);
  if (!o.do_sample || o.temperature <= 0) return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  return draw(logits, o, random);
}

uint64_t seed_of_answer(uint64_t seed, uint64_t index) {
  if (index == 0) return seed;
  uint64_t x = seed + index * 0x9e3779b97f4a7c15u;  // splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace loraine
