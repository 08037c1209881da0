// The mixer of Mamba as Jamba has it: x through a short convolution, dt, B and C made of that and normalised, the selective scan, a gate,
// output.
#pragma once
#include <memory>
#include <string>

#include "loraine/kernels/recurrent/selective_scan.h"
#include "loraine/model/mixer.h"
#include "loraine/model/mixers/recurrent.h"
#include "loraine/model/norm.h"

namespace loraine {

struct Mamba1Config final : MixerConfig {
  int64_t hidden_size = 0, channels = 0, state = 16, dt_rank = 0, taps = 4;
  bool bias = false, conv_bias = true;  // of in_proj and out_proj; of the convolution
  NormConfig inner;                     // of dt, B and C; dt_layernorm, b_layernorm, c_layernorm
  std::string folder = "mamba.";
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

class Mamba1 final : public Mixer {
 public:
  Mamba1(const Mamba1Config& config, Placement& placement, const std::string& layer);
  Parts parts() override;
  bool mixes_channels() const override { return false; }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  size_t thread_bytes(const PassNeed& need) const override;
  std::vector<Tensor> plan_carried(Arena& arena, int64_t rows, int64_t sequences, Dtype type) const override;
  double flops(int64_t tokens) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  enum Kept { kProjected, kMixed, kSmall, kNormed, kStatistics, kDt, kScanned, kBorders };
  enum Carried { kTaps, kState };

  // Columns of what in_proj gives: [x | gate]; of what x_proj gives: [dt | B | C].
  Tensor x(const Tensor& t) const { return t.col_range(0, c_.channels); }
  Tensor gate(const Tensor& t) const { return t.col_range(c_.channels, c_.channels); }
  int64_t small_columns() const { return c_.dt_rank + 2 * c_.state; }
  Tensor small(const Tensor& t, int which) const {
    return which == 0 ? t.col_range(0, c_.dt_rank) : t.col_range(c_.dt_rank + (which - 1) * c_.state, c_.state);
  }
  SelectiveScanShape shape() const { return {c_.channels, c_.state}; }
  Tensor as_matrix(const Tensor& t) const;  // A_log or its gradient
  // transformers takes dt_proj's weight itself: an adapter on it has no effect before it is merged.
  void step_sizes(const Step& s, const Tensor& dt, const Tensor& low) const;
  void step_sizes_backward(const Step& s, AdapterSet& trained, const Tensor& d_low, const Tensor& d_dt, const Tensor& low) const;

  Mamba1Config c_;
  Site in_, x_, dt_;
  GatedOutput output_;
  ShortConvolution conv_;
  Norm norms_[3];  // of dt, B, C
  Vector A_log_, D_;
};

}  // namespace loraine
