// LoRA-FA (Zhang et al. 2023) as PEFT's create_lorafa_optimizer: A stays as it starts; the gradient of B is replaced by the one whose B A
// comes nearest to the gradient of the whole matrix, (1 / s²) · g (A Aᵀ)⁻¹, and goes through AdamW. Called by the plan of a run.
#pragma once
#include "loraine/adapters/adapter.h"
#include "loraine/train/optimizers/recipe.h"

namespace loraine {

class LoraFaRule : public Rule {
 public:
  // a [r, in], which has to outlive it and keeps its values from the first update on.
  LoraFaRule(const Tensor& a, float scale, double beta1, double beta2, double epsilon)
      : a_(a), scale_(scale), beta1_(beta1), beta2_(beta2), epsilon_(epsilon) {}
  std::vector<StateShape> states(const Parameter& parameter) const override;
  size_t scratch_bytes(const Parameter& parameter) const override;  // of the gradient once more
  void update(Context& ctx, const Update& u, States states, float* scratch) const override;

 private:
  Tensor a_;
  float scale_;
  double beta1_, beta2_, epsilon_;
  mutable Buffer inverse_;  // [r, r] F32: (A Aᵀ + 1e-8 I)⁻¹ / s², made at the first update
};

// The pseudo-inverse of m [n, n], symmetric and not negative, in its place: directions below n · ε of f32 times the largest are left out,
// as torch.linalg.pinv leaves them.
void invert_symmetric(std::vector<double>& m, int64_t n);

// parameters: those of the run, of which lora_B gets the rule, and everything else AdamW; ε is 1e-6 where adam_epsilon is not given.
Recipe lorafa_recipe(const TrainConfig& config, std::span<const Parameter> parameters, const AdapterSet& adapter);
// Rules between the settings; throws usage naming the keys.
void check_lorafa(const TrainConfig& config);

}  // namespace loraine
