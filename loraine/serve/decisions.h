// Which of a few answers a model holds likely, without writing any: the probabilities of labels at the place where its answer would begin.
// Used by the handlers of /v1/decisions and /v1/systemone.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "loraine/serve/service.h"

namespace loraine {

struct LabelledPrompt {
  std::vector<int32_t> ids;
  std::vector<std::vector<int32_t>> labels;  // ids of each; none begins another
};

struct LabelShares {
  std::vector<double> probabilities;  // of the labels, together 1
  double mass = 0;                    // what the labels have of the whole vocabulary
  size_t likeliest = 0;
  double confidence() const { return probabilities[likeliest] * mass; }
};

struct Decided {
  std::vector<LabelShares> shares;               // one for each prompt
  int64_t prompt_tokens = 0, cached_tokens = 0;  // of all prompts; those found in the cache of prefixes
};

// From a worker; `done` runs in one too. The prompt that comes first is read first, so that the others find what they begin with. A label
// of several tokens counts as the product of theirs. Throws ApiError where a prompt is too long. param: the field that they come from.
void decide(Service& service, Call call, std::shared_ptr<const ServedAdapter> adapter, const std::vector<LabelledPrompt>& prompts,
            const char* param, std::function<void(Call&, const Decided&)> done);

// The places of a prompt's labels at which something follows, and what: for labels of one token each a single place.
class LabelTree {
 public:
  explicit LabelTree(const std::vector<std::vector<int32_t>>& labels);
  const std::vector<std::vector<int32_t>>& places() const { return places_; }  // ids behind the prompt; the first one is empty
  // Logits [V] behind a place. For different places from different threads.
  void tell(size_t place, std::span<const float> logits);
  LabelShares shares() const;  // once all places are told

 private:
  std::vector<std::vector<int32_t>> labels_, places_;
  std::vector<std::vector<std::pair<size_t, int32_t>>> next_;  // of each place: labels that go through it, and their next id
  std::vector<std::vector<double>> logprobs_;                  // beside next_
};

}  // namespace loraine
