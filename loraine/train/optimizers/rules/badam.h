// BAdam (Luo et al. 2024) by shares: AdamW over a share of each parameter's elements, another one from time to time. (By layers it is AdamW
// whose parameters take turns: blocks.h.)
#pragma once
#include "loraine/kernels/optimizers/adaptive.h"
#include "loraine/train/optimizers/rule.h"

namespace loraine {

class BAdamRatioRule : public Rule {
 public:
  // scatter: elements drawn by `seed` instead of neighbours.
  BAdamRatioRule(const Adam& options, double ratio, bool scatter, uint64_t seed)
      : options_(options), ratio_(ratio), scatter_(scatter), seed_(seed) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;
  size_t scratch_bytes(const Parameter& parameter) const override;
  void restrict_gradient(const Update& u, float* scratch) const override;

 private:
  int64_t share(int64_t elements) const { return static_cast<int64_t>(static_cast<double>(elements) * ratio_); }
  int64_t element(int64_t place, int64_t turn, int64_t elements) const;  // of the share of a turn

  Adam options_;
  double ratio_;
  bool scatter_;
  uint64_t seed_;
};

}  // namespace loraine
