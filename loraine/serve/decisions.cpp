// See decisions.h.
#include "loraine/serve/decisions.h"

#include <algorithm>
#include <cmath>

#include "loraine/serve/sequence_run.h"

namespace loraine {
namespace {

double log_sum(std::span<const float> logits) {
  const double top = static_cast<double>(*std::ranges::max_element(logits));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - top);
  return top + std::log(sum);
}

}  // namespace

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

LabelShares LabelTree::shares() const {
  LabelShares shares;
  std::vector<double> logprobs(labels_.size());
  for (size_t place = 0; place < places_.size(); ++place)
    for (size_t i = 0; i < next_[place].size(); ++i) logprobs[next_[place][i].first] += logprobs_[place][i];
  const double top = *std::ranges::max_element(logprobs);
  double sum = 0;
  for (const double one : logprobs) sum += std::exp(one - top);
  for (const double one : logprobs) shares.probabilities.push_back(std::exp(one - top) / sum);
  shares.mass = std::exp(top) * sum;
  shares.likeliest = static_cast<size_t>(std::ranges::max_element(shares.probabilities) - shares.probabilities.begin());
  return shares;
}

namespace {

using Trees = std::vector<LabelTree>;

// What is asked of the engine: the places of every prompt's labels.
struct Decision {
  std::shared_ptr<Trees> trees = std::make_shared<Trees>();  // held by the sequences too, which may outlast the request
  std::vector<std::shared_ptr<Generation>> heads;            // of each prompt the sequence of the first place
  SequenceRun::Sequences later;                              // all but the very first one
};

std::shared_ptr<Generation> sequence_of(const std::shared_ptr<Trees>& trees, const LabelledPrompt& prompt, size_t tree, size_t place) {
  auto sequence = std::make_shared<Generation>();
  sequence->prompt = prompt.ids;
  const std::vector<int32_t>& behind = (*trees)[tree].places()[place];
  sequence->prompt.insert(sequence->prompt.end(), behind.begin(), behind.end());
  sequence->options.max_new_tokens = 1;
  sequence->on_logits = [trees, tree, place](std::span<const float> logits) { (*trees)[tree].tell(place, logits); };
  return sequence;
}

}  // namespace

void decide(Service& service, Call call, std::shared_ptr<const ServedAdapter> adapter, const std::vector<LabelledPrompt>& prompts,
            const char* param, std::function<void(Call&, const Decided&)> done) {
  auto decision = std::make_shared<Decision>();
  for (const LabelledPrompt& prompt : prompts) decision->trees->emplace_back(prompt.labels);
  SequenceRun::Sequences all;
  for (size_t p = 0; p < prompts.size(); ++p)
    for (size_t place = 0; place < (*decision->trees)[p].places().size(); ++place) {
      all.push_back(sequence_of(decision->trees, prompts[p], p, place));
      all.back()->adapter = adapter;
      all.back()->prefix_key = service.prefix_key(adapter.get(), "");
      if (place == 0) decision->heads.push_back(all.back());
    }
  decision->later.assign(all.begin() + 1, all.end());
  const auto finish = [decision, done = std::move(done)](Service&, Call& answered) {
    Decided decided;
    for (const LabelTree& tree : *decision->trees) decided.shares.push_back(tree.shares());
    for (const auto& head : decision->heads) {
      decided.prompt_tokens += static_cast<int64_t>(head->prompt.size());
      decided.cached_tokens += head->cached();
    }
    done(answered, decided);
  };
  SequenceRun::check_lengths(service, all, param);
  SequenceRun::start(service, std::move(call), {all.front()}, param, [decision, finish, param](Service& s, Call& answered) {
    if (decision->later.empty()) return finish(s, answered);
    SequenceRun::start(s, answered, decision->later, param, finish);
  });
}

}  // namespace loraine
