// Stochastic gradient descent: torch.optim.SGD; without momentum also LOMO's (Lv et al. 2023), which keeps nothing.
#pragma once
#include "loraine/kernels/optimizers/momentum.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class SgdRule : public Rule {
 public:
  explicit SgdRule(const Sgd& options) : options_(options) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  Sgd options_;
};

}  // namespace loraine
