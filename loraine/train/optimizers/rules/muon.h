// Muon (Jordan et al. 2024) with the rate of Moonlight (Liu et al. 2025), as LLaMA-Factory has it: a step along the momentum made
// orthogonal.
#pragma once
#include "loraine/kernels/optimizers/adaptive.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class MuonRule : public Rule {  // of matrices
 public:
  std::vector<StateShape> states(const Parameter& parameter) const override;
  size_t scratch_bytes(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;
};

// What Muon leaves: AdamW whose ε is added before the start is corrected.
class MuonAdamWRule : public Rule {
 public:
  explicit MuonAdamWRule(const Adam& options) : options_(options) { options_.plain_epsilon = true; }
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  Adam options_;
};

}  // namespace loraine
