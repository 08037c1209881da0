// Texts that go through a model layer by layer, so that a layer can be looked at and changed before the next one is reached. Called by what
// quantises with a calibration pass.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "loraine/model/decoder.h"
#include "loraine/model/model.h"

namespace loraine {

class LayerWalk {
 public:
  // Given the rows that a site's product takes; false: what comes later in the layer is not needed.
  using SeesInput = std::function<bool(int64_t site, const Tensor& x)>;

  // Memory: the residual stream of all tokens in F32, [tokens, C], and the activations of one batch. Throws unsupported for models whose
  // layers read more than the stream of the one before.
  LayerWalk(const Model& model, const std::vector<std::vector<int32_t>>& texts);
  int64_t tokens() const { return tokens_; }
  size_t batches() const { return batches_.size(); }

  // The layer over the first `batches` batches, which stay before it.
  void look(int64_t layer, const SeesInput& sees, size_t batches);
  void look(int64_t layer, const SeesInput& sees) { look(layer, sees, batches_.size()); }
  void pass(int64_t layer, const SeesInput* sees = nullptr);  // all go through it; the answers of `sees` do not count

 private:
  struct TextBatch {
    Batch batch;
    Buffer stream;  // F32 [T, C]
  };
  void forward(int64_t layer, TextBatch& texts, const SeesInput* sees, bool goes_on);

  const Model& model_;
  std::vector<TextBatch> batches_;
  int64_t tokens_ = 0;
  Arena memory_, scratch_;
  Activations activations_;
};

// The sites of a layer in the order in which its forward reaches them.
std::vector<int64_t> sites_in_order(LayerWalk& walk, int64_t layer);

}  // namespace loraine
