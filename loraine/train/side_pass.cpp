// A forward without adapters, in memory of its own: the activations of the model that trains stay.
#include "loraine/train/reference_pass.h"

namespace loraine {
namespace {

size_t activation_bytes(const Model& model, int64_t rows) {
  Arena dry;
  plan_activations(model, rows, false, {}, dry);
  return dry.peak();
}

}  // namespace

ReferencePass::ReferencePass(const Model& model, int64_t rows)
    : model_(model),
      memory_(activation_bytes(model, rows)),
      scratch_(scratch_bytes(model, rows, false, {})),
      activations_(plan_activations(model, rows, false, {}, memory_)) {}

size_t ReferencePass::bytes(const Model& model, int64_t rows) {
  return activation_bytes(model, rows) + scratch_bytes(model, rows, false, {});
}

Tensor ReferencePass::hidden(Context& ctx, const Batch& batch) {
  Batch alone = batch;
  alone.adapter_rows.clear();
  Pass pass{&activations_, nullptr, {}, &scratch_, false};
  decoder_forward(ctx, model_, alone, pass);
  return activations_.hidden.row_range(0, batch.rows());
}

}  // namespace loraine
