// Several adapters as one that adds all of them, each with a weight of its own. Called by chat, export and its check through
// combine_adapters, and by serving.
#pragma once
#include <vector>

#include "loraine/adapters/adapter.h"

namespace loraine {

struct WeightedAdapter {
  const AdapterSet* set = nullptr;
  float weight = 1;  // on top of the adapter's own scale
};

// sites: the weights by the model's numbers. The sum has memory of its own and is not trained. Throws unsupported, naming the adapter, for
// those that do more than add a low-rank product (DoRA, whole tensors, the embedding).
AdapterSet weighted_sum(const std::vector<WeightedAdapter>& adapters, const std::vector<const Weight*>& sites);

}  // namespace loraine
