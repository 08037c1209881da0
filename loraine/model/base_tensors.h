// The tensors of a base by name, and copies of them that are trained or used in their place. Called by attach.cpp and stored_beside.cpp.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "loraine/adapters/dense.h"
#include "loraine/model/model.h"

namespace loraine {

// One tensor of the base and how a copy takes its place.
struct BaseTensor {
  std::string name, stored;  // as adapters and as the model's files call it
  Tensor value;              // of experts its shape alone
  bool mapped = false;       // in a file, and read by nothing else
  std::function<void(DenseSet&, const DenseTensor&)> place;
  bool trained = true;                     // false: a buffer
  const ExpertWeights* experts = nullptr;  // whose matrices it is
};

// All of them, in the model's order. share_tied: as of attach_dense (attach.h).
std::vector<BaseTensor> base_tensors(const Model& model, bool share_tied);

}  // namespace loraine
