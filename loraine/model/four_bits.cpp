// Sizes alone: nothing is quantised.
#include "loraine/model/four_bits.h"

#include <algorithm>

#include "loraine/quant/bitsandbytes.h"

namespace loraine {

size_t bytes_saved_by_four_bits(const Model& model) {
  size_t saved = 0;
  for (const BlockWeights& block : model.blocks)
    for (const Weight& site : block.sites)
      for (const WeightPart& part : site.parts) {
        if (is_packed(part.weight.dtype)) continue;
        const size_t scales = static_cast<size_t>(block_count(part.weight));
        const size_t after = static_cast<size_t>(part.weight.numel()) / 2 + scales;
        saved += part.weight.bytes() - std::min(part.weight.bytes(), after);
      }
  return saved;
}

}  // namespace loraine
