// Rules that go along the gradient or its sign: SGD as torch computes it, Lion (Chen et al. 2023) as bitsandbytes does.
#pragma once
#include "loraine/core/context.h"
#include "loraine/kernels/optimizers/update.h"

namespace loraine {

struct Sgd {
  double momentum = 0, dampening = 0;
  bool nesterov = false;
};
// g += decay · p; with momentum μ: b = μ b + (1 − dampening) g, at step 1 b = g; then g is b, or g + μ b (nesterov). p −= rate · g.
// `buffer` has no data where momentum is 0.
void sgd(Context& ctx, const Update& u, const Tensor& buffer, const Sgd& options);

struct Lion {
  double beta1 = 0.9, beta2 = 0.999;
};
// p −= rate · decay · p; p −= rate · sign(β1 m + (1 − β1) g); m = β2 m + (1 − β2) g.
void lion(Context& ctx, const Update& u, const Moment& m, const Lion& options);

}  // namespace loraine
