// Queries that grow with their position (Llama 4, Ministral 3).
#pragma once
#include <cstdint>

#include "loraine/model/step.h"

namespace loraine {

// q · (1 + beta · ln(1 + floor((position + offset) / length))); beta 0: none.
struct Temperature {
  float beta = 0, offset = 0;
  int64_t length = 1;
};

// In place on q [T, …], at the batch's positions; on gradients it is its own backward.
void heat(const Step& s, const Tensor& q, const Temperature& temperature);

}  // namespace loraine
