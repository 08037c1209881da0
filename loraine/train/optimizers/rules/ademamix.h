// AdEMAMix (Pagliardini et al. 2024) as bitsandbytes computes it: AdamW with a second, slow mean of the gradient; 32 or 8 bits.
#pragma once
#include "loraine/kernels/optimizers/adaptive.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class AdEmaMixRule : public Rule {
 public:
  // alpha_steps and beta3_steps: updates over which α rises from 0 and β3 from β1; 0: they have their value from the start.
  AdEmaMixRule(const AdEmaMix& options, int64_t alpha_steps, int64_t beta3_steps, bool eight_bits)
      : options_(options), alpha_steps_(alpha_steps), beta3_steps_(beta3_steps), eight_bits_(eight_bits) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  AdEmaMix options_;
  int64_t alpha_steps_, beta3_steps_;
  bool eight_bits_;
};

}  // namespace loraine
