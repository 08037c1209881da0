// The states of an optimizer in a checkpoint: optimizer.safetensors. Called by save.cpp.
#pragma once
#include <string>
#include <vector>

#include "loraine/core/tensor.h"

namespace loraine {

struct OptimizerState {
  std::string name;  // "….lora_A.weight.m"
  Tensor values;     // F32, F64 or U8; a view owned by the optimizer
};
void write_optimizer_state(const std::string& folder, const std::vector<OptimizerState>& states);
// Fills the views bit for bit; bad_data when names, shapes or types differ.
void read_optimizer_state(const std::string& folder, const std::vector<OptimizerState>& states);

}  // namespace loraine
