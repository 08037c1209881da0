// Random first values of tensors, F32 and contiguous. Called by the starts of start.h, by experts and by PEFT's methods.
#pragma once
#include <cmath>
#include <random>

#include "loraine/core/tensor.h"

namespace loraine {

// U(−1/√inputs, 1/√inputs): nn.Linear's start of a weight and a bias with so many inputs, which is Kaiming uniform with a = √5.
inline void fill_uniform(const Tensor& t, int64_t inputs, std::mt19937_64& random) {
  const float bound = 1.0f / std::sqrt(static_cast<float>(inputs));
  std::uniform_real_distribution<float> uniform(-bound, bound);
  for (int64_t i = 0; i < t.numel(); ++i) t.f32()[i] = uniform(random);
}

inline void fill_normal(const Tensor& t, float deviation, std::mt19937_64& random) {
  std::normal_distribution<float> normal(0, deviation);
  for (int64_t i = 0; i < t.numel(); ++i) t.f32()[i] = normal(random);
}

}  // namespace loraine
