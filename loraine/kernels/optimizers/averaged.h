// Schedule-free learning (Defazio et al. 2024), as schedulefree 1.4 computes it: z goes by the rule, x is the mean of what z was, and the
// parameter is y between them while it is trained.
#pragma once
#include "loraine/core/context.h"
#include "loraine/kernels/optimizers/update.h"

namespace loraine {

struct ScheduleFree {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double share = 1;     // of the new z in the mean
  bool divides = true;  // by the root of the mean of squares
};
// v = β2 v + (1 − β2) g² (when it has data); g /= √(v / (1 − β2ᵗ)) + ε (when `divides`); g += decay · y;
// y += share · (z − y) + rate · (β1 (1 − share) − 1) · g; z −= rate · g.
void schedule_free(Context& ctx, const Update& u, const Tensor& z, const Tensor& v, const ScheduleFree& options);

// value += weight · (z − value): with 1 − 1/β1 from y to x, with 1 − β1 back.
void go_towards(Context& ctx, const Tensor& value, const Tensor& z, double weight);

// value += factor · change, and value −= decay · value before or after it.
void add_and_decay(Context& ctx, const Tensor& value, const Tensor& change, double factor, double decay, bool decay_last);

}  // namespace loraine
