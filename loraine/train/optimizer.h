// AdamW over what one set trains, with clipping by the global norm. Called by the step loop.
#pragma once
#include "loraine/adapters/adapter.h"
#include "loraine/kernels/training/adamw.h"
#include "loraine/train/checkpoint.h"

namespace loraine {

// transformers' rule for weight decay: not on biases and norms, by the parameter's name.
bool decays(const std::string& name);

class Optimizer {
 public:
  explicit Optimizer(std::vector<Parameter> parameters);
  void zero_gradients();
  double gradient_norm(Context& ctx) const;
  void set_rate_factors(std::vector<double> factors);     // one per parameter, times the rate of a step; without it all are 1
  static float clip_scale(double norm, double max_norm);  // torch: max_norm / (norm + 1e-6), at most 1; 1 when max_norm is 0
  // Gradients times clip_scale, then AdamW.
  void step(Context& ctx, const AdamW& options, double norm, double max_norm);
  const std::vector<Moments>& moments() const { return moments_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  size_t bytes() const { return memory_.bytes(); }

 private:
  std::vector<Parameter> parameters_;
  std::vector<Moments> moments_;
  std::vector<double> rate_factors_;
  Buffer memory_;
};

}  // namespace loraine
