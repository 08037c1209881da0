// Two forms of AdamW that look at more than one element: StableAdamW (Wortsman et al. 2023) as torch-optimi computes it, and Adam-mini
// (Zhang et al. 2024), one second moment for each of `groups` equal pieces of the parameter.
#pragma once
#include "loraine/core/context.h"
#include "loraine/kernels/optimizers/adaptive.h"

namespace loraine {

struct StableAdam {
  double beta1 = 0.9, beta2 = 0.99, epsilon = 1e-6;
  double peak_rate = 0;  // above 0: decay by (rate / peak_rate) · decay instead of rate · decay
};
// m and v with betas corrected for their start, β̂ = (βᵗ − β) / (βᵗ − 1); r = rate / max(1, √mean(g² / max(v, ε²))); p −= r · decay · p;
// p −= r · m / (√v + ε).
void stable_adam(Context& ctx, const Update& u, const Tensor& m, const Tensor& v, const StableAdam& options);

// v [groups] is the running mean of the mean of g² over each group of numel / groups elements. p −= rate · decay · p;
// p −= rate / (1 − β1ᵗ) · m / (√v / √(1 − β2ᵗ) + ε).
void adam_mini(Context& ctx, const Update& u, const Tensor& m, const Tensor& v, const Adam& options);

}  // namespace loraine
