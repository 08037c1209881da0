// LAuReL, a learned residual of low rank: x + norm(right(left(x))). Beside attention, on the same rows.
#pragma once
#include <memory>
#include <string>

#include "loraine/model/mixer.h"
#include "loraine/model/norm.h"

namespace loraine {

struct LaurelConfig final : MixerConfig {
  int64_t hidden_size = 0, rank = 0;
  NormConfig norm;
  std::string folder = "laurel.", left = "linear_left", right = "linear_right";
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

class Laurel final : public Mixer {
 public:
  Laurel(const LaurelConfig& config, Placement& placement, const std::string& layer);
  Parts parts() override;
  bool mixes_channels() const override { return true; }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  enum Kept { kLow, kGiven, kStatistics };  // [T, rank], [T, C] before the norm

  LaurelConfig c_;
  Site left_, right_;
  Norm norm_;
};

}  // namespace loraine
