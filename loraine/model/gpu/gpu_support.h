// Which models the GPU has kernels for. Asked before a model is loaded.
#pragma once
#include <string>

#include "loraine/adapters/adapter.h"
#include "loraine/model/config.h"

namespace loraine {

// What of the model has no GPU code ("experts", "a cap on logits"); empty: all of it has.
std::string gpu_lacks(const ModelConfig& config);
// What of the adapter has none. trained: to be trained there, not only asked.
std::string gpu_lacks(const AdapterSet& set, bool trained);

}  // namespace loraine
