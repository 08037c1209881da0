// See embeddings.h.
#include "loraine/serve/embeddings.h"

#include <algorithm>
#include <cmath>

#include "loraine/serve/sequence_run.h"

namespace loraine {

void PooledState::add(std::span<const float> hidden) {
  if (pooling_ == Pooling::last || state_.empty()) {
    state_.assign(hidden.begin(), hidden.end());
    return;
  }
  for (size_t i = 0; i < hidden.size(); ++i) state_[i] += static_cast<double>(hidden[i]);
}

std::vector<float> PooledState::embedding(const std::optional<int64_t>& dimensions) const {
  const size_t size = std::min(state_.size(), static_cast<size_t>(dimensions.value_or(static_cast<int64_t>(state_.size()))));
  double squares = 0;
  for (size_t i = 0; i < size; ++i) squares += state_[i] * state_[i];
  const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
  std::vector<float> out(size);
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<float>(state_[i] * scale);
  return out;
}

void embed(Service& service, Call call, std::shared_ptr<const ServedAdapter> adapter, const std::vector<std::vector<int32_t>>& texts,
           const EmbeddingOptions& options, std::function<void(Call&, const Embeddings&)> done) {
  auto pooled = std::make_shared<std::vector<PooledState>>(texts.size(), PooledState(options.pooling));
  SequenceRun::Sequences sequences;
  for (size_t i = 0; i < texts.size(); ++i) {
    auto sequence = std::make_shared<Generation>();
    sequence->prompt = texts[i];
    sequence->adapter = adapter;
    sequence->options.max_new_tokens = 0;
    sequence->on_prompt_hidden = [pooled, i](std::span<const float> hidden) { (*pooled)[i].add(hidden); };
    sequences.push_back(std::move(sequence));
  }
  SequenceRun::start(service, std::move(call), std::move(sequences), "input",
                     [pooled, dimensions = options.dimensions, done = std::move(done)](Service&, Call& answered) {
                       Embeddings all;
                       for (const PooledState& one : *pooled) all.push_back(one.embedding(dimensions));
                       done(answered, all);
                     });
}

}  // namespace loraine
