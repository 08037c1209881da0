// What a model has learned: matrices that its rows are multiplied with, and vectors. Each has a number, under which an AdapterSet holds what
// lies over it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "loraine/quant/weight.h"

namespace loraine {

struct Site {
  Weight weight;
  int64_t index = -1;
  bool gives_output = false;  // the last product of its mixer, which a recomputation can leave out
};

struct Vector {
  std::string name, stored;  // the tensor as adapters call it, and in the model's files
  std::vector<float> values;
  int64_t index = -1;
  Tensor view() const {  // data == nullptr when it has no values
    if (values.empty()) return {};
    return Tensor(const_cast<float*>(values.data()), Dtype::F32, {static_cast<int64_t>(values.size())});
  }
};

// All of one mixer or layer, in an order that stays.
struct Parts {
  std::vector<Site*> sites;
  std::vector<Vector*> vectors;
};

}  // namespace loraine
