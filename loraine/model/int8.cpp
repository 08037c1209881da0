// Layer by layer, so that no more than one matrix lies in memory twice.
#include "loraine/model/int8.h"

#include <algorithm>

#include "loraine/io/files/mapped_file.h"
#include "loraine/quant/int8_weight.h"

namespace loraine {

void blocks_to_int8(Model& model) {
  for (Weight* weight : model.layer_sites()) {
    for (WeightPart& part : weight->parts) {
      const Tensor before = part.weight;
      const bool mapped = part.owned.bytes() == 0;
      if (before.dtype == Dtype::INT8) continue;
      quantise_part(part, {.type = Dtype::INT8, .as_f16 = false}, Dtype::F32);
      if (mapped) release_if_mapped(before.data, before.bytes());
    }
    weight->integer_products = true;
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
