// Activations and scratch as the model plans them when it computes in bfloat16.
#include "loraine/train/evaluation/bf16_evaluation.h"

#include <algorithm>

#include "loraine/train/loss.h"

namespace loraine {
namespace {

Activations planned(Model& model, int64_t rows, const std::vector<const AdapterSet*>& sets, Arena& arena) {
  const Bf16Evaluation::On on(model);
  return plan_activations(model, rows, false, sets, arena);
}

}  // namespace

Bf16Evaluation::Sizes Bf16Evaluation::sizes(Model& model, int64_t rows, const std::vector<const AdapterSet*>& sets) {
  const On on(model);
  Arena dry;
  plan_activations(model, rows, false, sets, dry);
  return {dry.peak(), std::max(scratch_bytes(model, rows, false, sets), loss_scratch_bytes(model, rows, sets.empty() ? nullptr : sets[0]))};
}

Bf16Evaluation::Bf16Evaluation(Model& model, int64_t rows, const std::vector<const AdapterSet*>& sets)
    : Bf16Evaluation(model, rows, sets, sizes(model, rows, sets)) {}

Bf16Evaluation::Bf16Evaluation(Model& model, int64_t rows, const std::vector<const AdapterSet*>& sets, const Sizes& sizes)
    : memory_(sizes.activations),
      scratch_(sizes.scratch),
      activations_(planned(model, rows, sets, memory_)),
      pass_{&activations_, nullptr, sets, &scratch_, false} {}

size_t Bf16Evaluation::bytes(Model& model, int64_t rows, const std::vector<const AdapterSet*>& sets) {
  const Sizes of = sizes(model, rows, sets);
  return of.activations + of.scratch;
}

}  // namespace loraine
