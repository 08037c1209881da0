// GrokAdamW: AdamW over a gradient whose slow part is amplified, each parameter clipped by its own norm, and the first moment of later
// parameters shorter. As grokadamw computes it under transformers, which gives it no signal of the losses.
#pragma once
#include "loraine/kernels/optimizers/adaptive.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class GrokAdamWRule : public Rule {
 public:
  // clip: the largest norm of one parameter's gradient, 0: any. own_beta1 in the options is that of this parameter.
  GrokAdamWRule(const GrokAdam& options, double clip) : options_(options), clip_(clip) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  GrokAdam options_;
  double clip_;
};

}  // namespace loraine
