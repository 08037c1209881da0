// The scalars of an AdamW update, which the CPU's op and the GPU's share.
#pragma once
#include "loraine/kernels/training/adamw.h"

namespace loraine {

struct AdamWScalars {
  double learning_rate;
  float lerp, beta2, one_minus_beta2, denominator, epsilon, step_size;
  // What a value is multiplied by before the update.
  static float decay(double learning_rate, double weight_decay) { return static_cast<float>(1 - learning_rate * weight_decay); }
};
AdamWScalars adamw_scalars(const AdamW& options);
// The decimal number that was meant: 0.9f is 0.899999976, and torch computes 1 − 0.9 in double.
double decimal_of(float x);

}  // namespace loraine
