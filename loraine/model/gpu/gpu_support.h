// Which models the GPU has kernels for. Asked before a model is loaded.
#pragma once
#include <string>

#include "loraine/model/config.h"

namespace loraine {

// What of the model has no GPU code ("experts", "a cap on logits"); empty: all of it has.
std::string gpu_lacks(const ModelConfig& config);

}  // namespace loraine
