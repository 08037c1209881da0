// Adagrad (Duchi et al. 2011): torch.optim.Adagrad.
#pragma once
#include "loraine/kernels/optimizers/adaptive.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class AdagradRule : public Rule {
 public:
  explicit AdagradRule(const Adagrad& options) : options_(options) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  Adagrad options_;
};

}  // namespace loraine
