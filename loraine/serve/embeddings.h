// Texts as vectors: the hidden states that the model ends with, pooled over the tokens and normalised. Used by the handlers of two
// protocols.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "loraine/serve/service.h"

namespace loraine {

enum class Pooling : uint8_t { mean, last };

struct EmbeddingOptions {
  Pooling pooling = Pooling::mean;
  std::optional<int64_t> dimensions;  // the first ones alone, normalised as they are
};

// What becomes of the hidden states [C] of one text, one after the other. Sums in double.
class PooledState {
 public:
  explicit PooledState(Pooling pooling) : pooling_(pooling) {}
  void add(std::span<const float> hidden);
  // Of length 1 (L2); a vector of zeros stays one.
  std::vector<float> embedding(const std::optional<int64_t>& dimensions) const;

 private:
  Pooling pooling_;
  std::vector<double> state_;
};

using Embeddings = std::vector<std::vector<float>>;
// From a worker: one vector per text of `texts` (ids); `done` gets them in a worker. The bits do not depend on who else asks. Throws
// ApiError where a text is empty or too long.
void embed(Service& service, Call call, std::shared_ptr<const ServedAdapter> adapter, const std::vector<std::vector<int32_t>>& texts,
           const EmbeddingOptions& options, std::function<void(Call&, const Embeddings&)> done);

}  // namespace loraine
