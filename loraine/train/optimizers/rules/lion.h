// Lion (Chen et al. 2023): the sign of a running mean, one state, in 32 or 8 bits as bitsandbytes keeps it.
#pragma once
#include "loraine/kernels/optimizers/momentum.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class LionRule : public Rule {
 public:
  LionRule(const Lion& options, bool eight_bits) : options_(options), eight_bits_(eight_bits) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  Lion options_;
  bool eight_bits_;
};

}  // namespace loraine
