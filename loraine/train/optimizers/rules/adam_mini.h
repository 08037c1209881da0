// Adam-mini (Zhang et al. 2024): AdamW with one second moment for a head, a row, or a whole parameter.
#pragma once
#include "loraine/kernels/optimizers/stable.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class AdamMiniRule : public Rule {
 public:
  AdamMiniRule(const Adam& options, int64_t head_elements) : options_(options), head_elements_(head_elements) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;
  // Of the parameter, by its name as adam-mini 1.1 tells them. usage where its pieces do not come out even.
  int64_t groups(const Parameter& parameter) const;

 private:
  Adam options_;
  int64_t head_elements_;  // of a head in q and k: hidden_size² / heads
};

bool adam_mini_decays(const std::string& name);

}  // namespace loraine
