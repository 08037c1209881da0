// A forward in memory of its own: the activations of the model that trains stay.
#include "loraine/train/evaluation/side_pass.h"

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine {
namespace {

std::vector<const AdapterSet*> sets_of(const AdapterSet* set) {
  return set ? std::vector<const AdapterSet*>{set} : std::vector<const AdapterSet*>();
}

size_t activation_bytes(const Model& model, int64_t rows, const AdapterSet* set) {
  Arena dry;
  plan_activations(model, rows, false, sets_of(set), dry);
  return dry.peak();
}

size_t side_scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set) {
  return std::max(scratch_bytes(model, rows, false, sets_of(set)), loss_scratch_bytes(model, rows, set));
}

}  // namespace

SidePass::SidePass(const Model& model, int64_t rows, const AdapterSet* set)
    : model_(model),
      set_(set),
      memory_(activation_bytes(model, rows, set)),
      scratch_(side_scratch_bytes(model, rows, set)),
      activations_(plan_activations(model, rows, false, sets_of(set), memory_)) {}

size_t SidePass::bytes(const Model& model, int64_t rows, const AdapterSet* set) {
  return activation_bytes(model, rows, set) + side_scratch_bytes(model, rows, set);
}

Tensor SidePass::hidden(Context& ctx, const Batch& batch, bool adapted) {
  if (elsewhere_) throw Error(ErrorKind::internal, "hidden states of a pass beside the one that trains have no GPU code");
  Batch alone = batch;
  alone.adapter_rows.clear();
  if (adapted && set_) alone.adapter_rows = {{0, batch.rows(), 0}};
  Pass pass{&activations_, nullptr, sets_of(set_), &scratch_, false};
  decoder_forward(ctx, model_, alone, pass);
  return activations_.hidden.row_range(0, batch.rows());
}

LossSums SidePass::label_losses(Context& ctx, const Batch& batch, bool adapted, double temperature) {
  if (elsewhere_ && temperature == 1) return elsewhere_(batch, adapted);
  const Tensor states = hidden(ctx, batch, adapted);
  LossOptions options;
  options.set = adapted ? set_ : nullptr;
  options.temperature = temperature;
  return loss_and_head_gradient(ctx, model_, batch, states, Tensor(), 0, options, scratch_);
}

}  // namespace loraine
