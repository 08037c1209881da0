// Sizes alone: nothing is changed.
#include "loraine/model/smaller_base.h"

#include <algorithm>

#include "loraine/quant/bitsandbytes.h"

namespace loraine {
namespace {

template <class Each>
void each_block_part(const Model& model, const Each& each) {
  for (const WeightPart* part : model.block_parts()) each(part->weight);
}

size_t half_of_f32(const Tensor& weight) { return weight.data && weight.dtype == Dtype::F32 ? weight.bytes() / 2 : 0; }

}  // namespace

size_t bytes_saved_by_four_bits(const Model& model) {
  size_t saved = 0;
  each_block_part(model, [&](const Tensor& weight) {
    if (is_packed(weight.dtype)) return;
    const size_t after = static_cast<size_t>(weight.numel()) / 2 + static_cast<size_t>(block_count(weight));
    saved += weight.bytes() - std::min(weight.bytes(), after);
  });
  return saved;
}

size_t bytes_saved_by_bf16(const Model& model) {
  size_t saved = half_of_f32(model.embedding);
  for (const WeightPart& part : model.head.weight.parts)
    if (part.weight.data != model.embedding.data) saved += half_of_f32(part.weight);
  each_block_part(model, [&](const Tensor& weight) { saved += half_of_f32(weight); });
  return saved;
}

}  // namespace loraine
