// Adafactor (Shazeer & Stern 2018) as transformers runs it, and AdaLomo (Lv et al. 2024): of a matrix one number per row and column is
// kept.
#pragma once
#include "loraine/kernels/optimizers/factored.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class AdafactorRule : public Rule {
 public:
  explicit AdafactorRule(const Adafactor& options) : options_(options) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  size_t scratch_bytes(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  Adafactor options_;
};

}  // namespace loraine
