// Rules that divide by the root of a running mean of squares: Adagrad and RMSprop as torch computes them, Adam with decoupled decay on
// states of 8 bits and AdEMAMix (Pagliardini et al. 2024) as bitsandbytes does, GrokAdamW.
#pragma once
#include "loraine/core/context.h"
#include "loraine/kernels/optimizers/update.h"

namespace loraine {

struct Adagrad {
  double rate_decay = 0, epsilon = 1e-10;
};
// g += decay · p; s += g²; p −= rate / (1 + (step − 1) · rate_decay) · g / (√s + ε).
void adagrad(Context& ctx, const Update& u, const Tensor& sum, const Adagrad& options);

struct RmsProp {
  double alpha = 0.99, epsilon = 1e-8, momentum = 0;
  bool centered = false;
};
// g += decay · p; s = α s + (1 − α) g²; d = √s + ε, centered: √(s − m²) + ε with m the running mean of g; with momentum μ: b = μ b + g / d,
// p −= rate · b, else p −= rate · g / d. `mean` and `buffer` have no data where they are not needed.
void rmsprop(Context& ctx, const Update& u, const Moment& square, const Tensor& mean, const Tensor& buffer, const RmsProp& options);

struct Adam {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  bool plain_epsilon = false;  // added to √v before the start of v is corrected, not after
  bool decay_last = false;     // p −= rate · decay · p after the update, not before
};
// AdamW (kernels/training/adamw.h) over moments of either kind.
void adam(Context& ctx, const Update& u, const Moment& m, const Moment& v, const Adam& options);

struct AdEmaMix {
  double beta1 = 0.9, beta2 = 0.999, beta3 = 0.9999, alpha = 5, epsilon = 1e-8;
};
// m and s: running means of g by β1 and β3, v of g² by β2. p −= rate · decay · p;
// p −= rate · (m / (1 − β1ᵗ) + α s) / (√v / √(1 − β2ᵗ) + ε).
void ademamix(Context& ctx, const Update& u, const Moment& fast, const Moment& slow, const Moment& v, const AdEmaMix& options);

struct GrokAdam {
  double beta1 = 0.9, own_beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // own_beta1 decays m, beta1 corrects its start
  double alpha = 0.98, lambda = 2;
};
// e = α e + (1 − α) g; g += λ e; m and v running means of g and g²; p −= rate · decay · p; p −= rate · √(1 − β2ᵗ) / (1 − β1ᵗ) · m / (√v +
// ε).
void grok_adam(Context& ctx, const Update& u, const Tensor& m, const Tensor& v, const Tensor& grok, const GrokAdam& options);

}  // namespace loraine
