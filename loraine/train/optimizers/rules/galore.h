// GaLore (Zhao et al. 2024): AdamW or Adafactor over the projection of a matrix's gradient on its largest singular vectors.
#pragma once
#include "loraine/kernels/optimizers/adaptive.h"
#include "loraine/train/optimizers/gradient_space.h"

namespace loraine {

struct GaLoreOptions {
  enum class Inner { adamw, adamw_8bit, adafactor } inner = Inner::adamw;
  Adam adam;
  LowRankOptions space;
  double scale = 0.25;  // of what comes back
};

// As galore-torch computes it; of a vector or a matrix outside its targets see PlainAdamWRule below and AdafactorRule.
class GaLoreRule : public Rule {
 public:
  explicit GaLoreRule(const GaLoreOptions& options) : o_(options) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  size_t scratch_bytes(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  bool eight_bits(const GradientSpace& space) const;
  GaLoreOptions o_;
};

// AdamW as transformers once had it, and galore-torch and apollo-torch still do: ε is added before the start is corrected, the decay comes
// last.
class PlainAdamWRule : public Rule {
 public:
  explicit PlainAdamWRule(const Adam& options) : options_(options) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  Adam options_;
};

}  // namespace loraine
