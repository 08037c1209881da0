// Keeps of each row what lies far above its mean, about the largest part of a normal distribution: the sparse activations of Gemma 3n.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// y = max(x − (mean + deviations · sqrt(variance)), 0), mean and variance of each row, the latter with 1/C. x, y [T, C] F32 or BF16 each by
// itself; y may be x; rows may be strided.
void gaussian_topk(Context& ctx, const Tensor& y, const Tensor& x, float deviations);
// d becomes the gradient of x; it comes as that of y. d F32 or BF16. A row of equal numbers has none through its variance.
void gaussian_topk_backward(Context& ctx, const Tensor& d, const Tensor& x, float deviations);
// `deviations` with which a share of `sparsity` of a normal distribution is left out: its quantile. 0 < sparsity < 1.
float normal_quantile(double sparsity);

}  // namespace loraine
