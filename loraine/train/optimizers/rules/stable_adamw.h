// StableAdamW (Wortsman et al. 2023) as torch-optimi computes it: the rate of a parameter shrinks while its gradients outrun their mean.
#pragma once
#include "loraine/kernels/optimizers/stable.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class StableAdamWRule : public Rule {
 public:
  explicit StableAdamWRule(const StableAdam& options) : options_(options) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  StableAdam options_;
};

}  // namespace loraine
