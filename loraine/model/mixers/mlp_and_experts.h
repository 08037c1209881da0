// A dense MLP and experts side by side (Gemma 4), each between norms of its own; the router reads the same rows through a norm of its own.
#pragma once
#include <memory>
#include <string>

#include "loraine/model/mixers/experts.h"
#include "loraine/model/mixers/mlp.h"
#include "loraine/model/norm.h"

namespace loraine {

// RMS norms; the weight of the router's is the tensor `router_scale`, and what it gives is multiplied with 1 / √hidden_size.
struct MlpAndExpertsConfig final : MixerConfig {
  MlpConfig mlp;
  ExpertsConfig experts;
  NormConfig before_mlp, after_mlp, before_experts, after_experts, router_norm;
  std::string router_scale = "router.scale";
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

// after_mlp(mlp(before_mlp(x))) + after_experts(experts(before_experts(x)))
class MlpAndExperts final : public Mixer {
 public:
  MlpAndExperts(const MlpAndExpertsConfig& config, Placement& placement, const std::string& layer);
  Parts parts() override;
  bool mixes_channels() const override { return true; }
  int64_t experts_per_row() const override { return experts_->experts_per_row(); }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  size_t thread_bytes(const PassNeed& need) const override { return experts_->thread_bytes(need); }
  double flops(int64_t tokens) const override { return experts_->flops(tokens); }
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  enum Norms { kBeforeMlp, kAfterMlp, kBeforeExperts, kAfterExperts, kRouter, kNorms };
  enum Kept { kStatistics, kMlpGave, kExpertsGave, kMlp, kExperts };  // the MLP keeps one tensor, the experts the rest

  Tensor statistics(const Step& s, Norms which) const { return s.kept_tensors[kStatistics].row_range(which, 1); }
  Step inner(const Step& s, Kept first) const;
  // y = the norm `which` of what a branch gave, which is kept; y may be `given`.
  void norm_given(const Step& s, Norms which, Kept keep, const Tensor& y, const Tensor& given) const;

  int64_t hidden_size_;
  Norm norms_[kNorms];
  float router_factor_;
  std::unique_ptr<Mlp> mlp_;
  std::unique_ptr<Experts> experts_;
};

}  // namespace loraine
