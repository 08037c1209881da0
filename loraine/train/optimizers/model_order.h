// The order in which PyTorch lists the parameters of a Llama or Qwen model, which some rules count by. Used by the recipes.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"

namespace loraine {

// Places in `parameters`, in the order of the model's modules: embedding, layers with attention, MLP and norms, last norm, head.
std::vector<size_t> model_order(std::span<const Parameter> parameters);
int64_t layer_of(const std::string& name);  // the number behind "layers.", -1 outside the layers

}  // namespace loraine
