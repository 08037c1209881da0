// RMSprop (Hinton 2012): torch.optim.RMSprop, and bitsandbytes' with a state of 8 bits.
#pragma once
#include "loraine/kernels/optimizers/adaptive.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class RmsPropRule : public Rule {
 public:
  RmsPropRule(const RmsProp& options, bool eight_bits) : options_(options), eight_bits_(eight_bits) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  RmsProp options_;
  bool eight_bits_;
};

}  // namespace loraine
