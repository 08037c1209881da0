// Forwards without gradients beside the one that trains, in memory of their own: what objectives compare with. Called by objectives and by
// evaluation.
#pragma once
#include <functional>

#include "loraine/model/decoder.h"
#include "loraine/train/loss.h"

namespace loraine {

class SidePass {
 public:
  // For batches of up to `rows` rows. set: what their rows may run with; nullptr: nothing but the base.
  SidePass(const Model& model, int64_t rows, const AdapterSet* set = nullptr);
  // Computed elsewhere, on a GPU: losses alone, at temperature 1. adapted: as below.
  using Elsewhere = std::function<LossSums(const Batch& batch, bool adapted)>;
  SidePass(const Model& model, Elsewhere losses) : model_(model), set_(nullptr), elsewhere_(std::move(losses)) {}
  SidePass(const SidePass&) = delete;
  static size_t bytes(const Model& model, int64_t rows, const AdapterSet* set = nullptr);
  // Hidden states after the final norm [T, C], in the type of activations, good until the next call. adapted: all rows run with the set, as
  // it is now; else with the base alone. Adapters of the batch do not count.
  Tensor hidden(Context& ctx, const Batch& batch, bool adapted = false);
  // −log p of the batch's labels, by sequence and by label; temperature: that logits are divided by.
  LossSums label_losses(Context& ctx, const Batch& batch, bool adapted = false, double temperature = 1);

 private:
  const Model& model_;
  const AdapterSet* set_;
  Arena memory_, scratch_;
  Activations activations_;
  Elsewhere elsewhere_;
};

}  // namespace loraine
