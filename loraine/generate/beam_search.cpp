// The choices of a step, in transformers' order and in its types: scores are f32, what is left out has -1e9 added.
#include "loraine/generate/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>

namespace loraine {
namespace {

constexpr float kOut = -1e9f;

void log_softmax(std::span<float> logits) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x - top));
  const double shift = static_cast<double>(top) + std::log(sum);
  for (float& x : logits) x = static_cast<float>(static_cast<double>(x) - shift);
}

// Temperature, top_k and top_p on log-probabilities; what falls out is -inf. At least `least` stay.
void warp(std::span<float> scores, const GenerateOptions& o, size_t least) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  if (o.temperature > 0)
    for (float& x : scores) x = static_cast<float>(x / o.temperature);
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  size_t keep = o.top_k > 0 ? std::min(std::max(static_cast<size_t>(o.top_k), least), order.size()) : order.size();
  double sum = 0, mass = 0;
  for (size_t i = 0; i < keep; ++i) sum += std::exp(static_cast<double>(scores[order[i]] - scores[order[0]]));
  size_t kept = 0;
  while (kept < keep && (kept < least || mass < o.top_p * sum))
    mass += std::exp(static_cast<double>(scores[order[kept++]] - scores[order[0]]));
  for (size_t i = kept; i < order.size(); ++i) scores[order[i]] = kNever;
}

// Places of the k largest, largest first; of equal ones the first.
std::vector<size_t> largest(std::span<const float> values, size_t k) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  k = std::min(k, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(),
                    [&](size_t a, size_t b) { return values[a] > values[b] || (values[a] == values[b] && a < b); });
  order.resize(k);
  return order;
}

size_t distinct(std::vector<int32_t> ids) {
  std::sort(ids.begin(), ids.end());
  return static_cast<size_t>(std::unique(ids.begin(), ids.end()) - ids.begin());
}

}  // namespace

BeamSearch::BeamSearch(std::vector<int32_t> prompt, const GenerateOptions& options, int64_t limit)
    : options_(options), prompt_length_(prompt.size()), most_(prompt.size() + static_cast<size_t>(limit)) {
  running_.resize(static_cast<size_t>(std::max<int64_t>(options.num_beams, 1)), Beam{std::move(prompt), kOut});
  running_[0].score = 0;  // the others would go on in the same way
}

std::vector<int32_t> BeamSearch::last_tokens() const {
  std::vector<int32_t> ids;
  for (const Beam& beam : running_) ids.push_back(beam.ids.back());
  return ids;
}

// The best continuations of all beams together, best first: so many that as many as there are beams go on, whatever ends.
std::vector<BeamSearch::Candidate> BeamSearch::candidates(std::span<float> logits, std::mt19937_64& random) const {
  const size_t ends = distinct(options_.stop_ids), n = running_.size();
  const bool first = running_[0].ids.size() == prompt_length_;
  const size_t V = logits.size() / (first ? 1 : n);
  std::vector<float> scores(n * V);
  for (size_t b = 0; b < n; ++b) {
    const std::span<float> row = logits.subspan(first ? 0 : b * V, V);
    if (!first || b == 0) {
      log_softmax(row);
      penalise_repetition(row, running_[b].ids, options_.repetition_penalty);
      if (options_.do_sample) warp(row, options_, ends + 1);
    }
    for (size_t id = 0; id < V; ++id) scores[b * V + id] = row[id] + running_[b].score;
  }
  const size_t count = std::max<size_t>(2, 1 + ends) * n;
  std::vector<size_t> best;
  if (options_.do_sample) {  // the largest of scores with Gumbel noise are a draw without replacement
    std::vector<float> noisy(scores);
    std::uniform_real_distribution<double> uniform(std::numeric_limits<double>::min(), 1);
    for (float& x : noisy)
      if (std::isfinite(x)) x = static_cast<float>(x - std::log(-std::log(uniform(random))));
    best = largest(noisy, count);
    std::stable_sort(best.begin(), best.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  } else {
    best = largest(scores, count);
  }
  std::vector<Candidate> made;
  for (const size_t at : best) made.push_back({scores[at], static_cast<int64_t>(at / V), static_cast<int32_t>(at % V)});
  return made;
}

// Those that end now and are among the first, beside the answers there are: the best stay.
void BeamSearch::keep_answers(std::span<const Candidate> best, std::span<const bool> ends) {
  const size_t n = running_.size();
  const auto length = static_cast<double>(running_[0].ids.size() + 1 - prompt_length_);
  const auto divisor = static_cast<float>(std::pow(length, options_.length_penalty));
  if (answers_.empty()) answers_.resize(n, Beam{{}, kOut});
  std::vector<Beam> all = std::move(answers_);
  std::vector<float> scores;
  for (const Beam& answer : all) scores.push_back(answer.score);
  for (size_t i = 0; i < best.size(); ++i) {
    const bool ended = ends[i] && i < n;
    float score = best[i].score / divisor;
    if (!can_improve_) score += kOut;
    if (!ended) score += kOut;
    scores.push_back(score);
    all.push_back({{}, score, ended});
    if (!ended) continue;
    all.back().ids = running_[static_cast<size_t>(best[i].beam)].ids;
    all.back().ids.push_back(best[i].id);
  }
  answers_.clear();
  for (const size_t at : largest(scores, n)) answers_.push_back(std::move(all[at]));
}

std::vector<int64_t> BeamSearch::advance(std::span<float> logits, std::mt19937_64& random) {
  const std::vector<Candidate> best = candidates(logits, random);
  const auto ended = std::make_unique<bool[]>(best.size());
  std::vector<float> scores;
  bool all_end = true;
  for (size_t i = 0; i < best.size(); ++i) {
    ended[i] = running_[0].ids.size() + 1 >= most_ || std::ranges::find(options_.stop_ids, best[i].id) != options_.stop_ids.end();
    scores.push_back(ended[i] ? best[i].score + kOut : best[i].score);
    all_end &= ended[i];
  }
  keep_answers(best, {ended.get(), best.size()});
  std::vector<Beam> next;
  std::vector<int64_t> parents;
  for (const size_t at : largest(scores, running_.size())) {
    next.push_back({running_[static_cast<size_t>(best[at].beam)].ids, scores[at]});
    next.back().ids.push_back(best[at].id);
    parents.push_back(best[at].beam);
  }
  running_ = std::move(next);
  const auto length = static_cast<double>(running_[0].ids.size() - prompt_length_);
  const float hoped = running_[0].score / static_cast<float>(std::pow(length, options_.length_penalty));
  const float worst = std::ranges::min_element(answers_, {}, &Beam::score)->score;
  can_improve_ = can_improve_ && std::ranges::any_of(answers_, [&](const Beam& answer) { return hoped > (answer.ended ? worst : kOut); });
  finished_ = !can_improve_ || all_end;
  return parents;
}

std::vector<int32_t> BeamSearch::answer() const {
  const std::vector<int32_t>& ids = answers_.empty() || !answers_[0].ended ? running_[0].ids : answers_[0].ids;
  return {ids.begin() + static_cast<std::ptrdiff_t>(prompt_length_), ids.end()};
}

}  // namespace loraine
