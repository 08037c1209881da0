// Layer by layer, so that no more than one matrix lies in memory twice.
#include "loraine/model/int8.h"

#include <algorithm>

#include "loraine/io/files/mapped_file.h"
#include "loraine/model/layer.h"
#include "loraine/quant/int8_weight.h"

namespace loraine {

void blocks_to_int8(Model& model) {
  const auto to_codes = [](WeightPart& part) {
    const Tensor before = part.weight;
    const bool mapped = part.owned.bytes() == 0;
    if (before.dtype == Dtype::INT8) return;
    quantise_part(part, {.type = Dtype::INT8, .as_f16 = false}, Dtype::F32);
    if (mapped) release_if_mapped(before.data, before.bytes());
  };
  for (const auto& layer : model.layers) {
    const Parts parts = layer->parts();
    for (Site* site : parts.sites) {
      if (site->weight.whole) continue;
      for (WeightPart& part : site->weight.parts) to_codes(part);
      site->weight.integer_products = true;
    }
    for (ExpertWeights* experts : parts.experts)  // whose products take the codes as weights
      for (ExpertStack& stack : experts->stacks)
        for (WeightPart& part : stack.parts) to_codes(part);
  }
  check_mapped_files();
}

size_t int8_bytes(const Model& model, int64_t rows) {
  int64_t widest = 0;
  for (const Weight* site : model.layer_sites()) widest = std::max({widest, site->in(), site->out()});
  size_t mapped = model.embedding_memory.bytes() == 0 ? model.embedding.bytes() : 0;
  if (!model.config.tie_word_embeddings)
    for (const WeightPart& part : model.head.weight.parts) mapped += part.owned.bytes() == 0 ? part.weight.bytes() : 0;
  return mapped + int8_weight_scratch(rows, widest);
}

}  // namespace loraine
