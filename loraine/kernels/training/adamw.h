// AdamW as torch computes it, and the global gradient norm.
#pragma once
#include <cstdint>

#include "loraine/core/context.h"

namespace loraine {

struct AdamW {
  float learning_rate = 0, beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f, weight_decay = 0;
  int64_t step = 1;  // from 1
};
// p −= lr·wd·p; m, v updated; p −= lr/(1−β1ᵗ) · m / (sqrt(v)/sqrt(1−β2ᵗ) + ε). All F32 of the same size. grad is multiplied by grad_scale
// (clipping) first.
void adamw(Context& ctx, const Tensor& parameter, const Tensor& m, const Tensor& v, const Tensor& gradient, float grad_scale,
           const AdamW& options);
double sum_of_squares(Context& ctx, const Tensor& x);  // fixed order, double accumulation

}  // namespace loraine
