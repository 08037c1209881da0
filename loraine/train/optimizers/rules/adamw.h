// AdamW (Loshchilov & Hutter 2019): torch's, also with bitsandbytes' states of 8 bits.
#pragma once
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class AdamWRule : public Rule {
 public:
  AdamWRule(double beta1, double beta2, double epsilon, bool eight_bits = false)
      : beta1_(beta1), beta2_(beta2), epsilon_(epsilon), eight_bits_(eight_bits) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  double beta1_, beta2_, epsilon_;
  bool eight_bits_;
};

}  // namespace loraine
