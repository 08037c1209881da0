// Layer by layer, so that no more than one matrix lies in memory twice.
#include "loraine/model/int8.h"

#include <algorithm>

#include "loraine/io/files/mapped_file.h"
#include "loraine/kernels/products/packed_int8_products.h"
#include "loraine/model/layer.h"
#include "loraine/quant/int8_weight.h"

namespace loraine {

namespace {

bool lies_in_integer_blocks(const Weight& weight) {
  return !weight.parts.empty() && std::ranges::all_of(weight.parts, [](const WeightPart& p) { return has_integer_blocks(p.weight.dtype); });
}

void to_codes(WeightPart& part) {
  const Tensor before = part.weight;
  const bool mapped = part.owned.bytes() == 0;
  if (before.dtype == Dtype::INT8) return;
  quantise_part(part, {.type = Dtype::INT8, .as_f16 = false}, Dtype::F32);
  if (mapped) release_if_mapped(before.data, before.bytes());
}

// Returns the number of sites that stay as they lie, which they do where keep_packed says so.
int64_t to_integers(Model& model, bool keep_packed) {
  int64_t kept = 0;
  const auto keep = [&](Weight& weight) {
    if (!keep_packed || !lies_in_integer_blocks(weight)) return false;
    weight.integer_products = true;
    return ++kept > 0;
  };
  for (const auto& layer : model.layers) {
    const Parts parts = layer->parts();
    for (Site* site : parts.sites) {
      if (site->weight.whole || keep(site->weight)) continue;
      for (WeightPart& part : site->weight.parts) to_codes(part);
      site->weight.integer_products = true;
    }
    for (ExpertWeights* experts : parts.experts)  // whose products take the codes as weights
      for (ExpertStack& stack : experts->stacks)
        for (WeightPart& part : stack.parts)
          if (!keep_packed || !has_integer_blocks(part.weight.dtype)) to_codes(part);
  }
  keep(model.head.weight);
  check_mapped_files();
  return kept;
}

}  // namespace

void blocks_to_int8(Model& model) { to_integers(model, false); }
int64_t layers_to_integers(Model& model) { return to_integers(model, true); }

size_t int8_bytes(const Model& model, int64_t rows) {
  int64_t widest = 0;
  for (const Weight* site : model.layer_sites()) widest = std::max({widest, site->in(), site->out()});
  size_t mapped = model.embedding_memory.bytes() == 0 ? model.embedding.bytes() : 0;
  if (!model.config.tie_word_embeddings)
    for (const WeightPart& part : model.head.weight.parts) mapped += part.owned.bytes() == 0 ? part.weight.bytes() : 0;
  return mapped + int8_weight_scratch(rows, widest);
}

}  // namespace loraine
