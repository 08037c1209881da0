// The base model alone, as it was before training, over a batch: what a loss compares with. Called by the step loop and by evaluation.
#pragma once
#include "loraine/model/decoder.h"

namespace loraine {

class ReferencePass {
 public:
  ReferencePass(const Model& model, int64_t rows);  // for batches of up to so many rows
  ReferencePass(const ReferencePass&) = delete;
  static size_t bytes(const Model& model, int64_t rows);
  // Hidden states after the final norm [T, C], in the type of activations, good until the next call. Adapters of the batch do not count.
  Tensor hidden(Context& ctx, const Batch& batch);

 private:
  const Model& model_;
  Arena memory_, scratch_;
  Activations activations_;
};

}  // namespace loraine
