// Schedule-free AdamW, RAdam and SGD (Defazio et al. 2024) as schedulefree computes them. What is evaluated and saved is the mean x; the
// parameter is y while it is trained.
#pragma once
#include "loraine/train/optimizers/rule.h"

namespace loraine {

struct ScheduleFreeOptions {
  enum class Kind { adamw, radam, sgd } kind = Kind::adamw;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // beta1: also SGD's momentum
  double weight_power = 2, r = 0;                     // the weight of step t in the mean is tʳ · (largest rate so far)^weight_power
  int64_t warmup_steps = 0;                           // of its own, times the schedule's
};

class ScheduleFreeRule : public Rule {
 public:
  explicit ScheduleFreeRule(const ScheduleFreeOptions& options) : o_(options) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;
  bool averages() const override { return true; }
  void to_averages(Context& ctx, const Tensor& value, States states) const override;
  void to_training(Context& ctx, const Tensor& value, States states) const override;

 private:
  ScheduleFreeOptions o_;
};

}  // namespace loraine
