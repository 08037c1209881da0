// The mixer of Mamba-2: x, B and C through a short convolution, the selective scan, a norm in groups with a gate beside it, output.
#pragma once
#include <array>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "loraine/kernels/recurrent/mamba2.h"
#include "loraine/model/mixer.h"
#include "loraine/model/mixers/recurrent.h"

namespace loraine {

struct Mamba2Config final : MixerConfig {
  int64_t hidden_size = 0, heads = 0, head_dim = 0, groups = 1, state = 0, taps = 4;
  float dt_min = 0, dt_max = std::numeric_limits<float>::infinity();
  float norm_eps = 1e-5f;
  bool norm = true, norm_before_gate = false;
  bool in_bias = false, out_bias = false, conv_bias = true;
  std::array<float, 5> multipliers = {1, 1, 1, 1, 1};  // of what in_proj gives: gate, x, B, C, dt
  std::string folder = "mamba.";
  int64_t width() const { return heads * head_dim; }
  int64_t keys() const { return groups * state; }
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

class Mamba2 final : public Mixer {
 public:
  Mamba2(const Mamba2Config& config, Placement& placement, const std::string& layer);
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
  enum Kept { kProjected, kScanned, kBorders };
  enum Carried { kTaps, kState };

  // Columns of what in_proj gives: [gate | x | B | C | dt], the middle three through the convolution.
  Tensor gate(const Tensor& t) const { return t.col_range(0, c_.width()); }
  Tensor xbc(const Tensor& t) const { return t.col_range(c_.width(), conv_.channels); }
  Tensor dt(const Tensor& t) const { return t.col_range(c_.width() + conv_.channels, c_.heads); }
  int64_t columns() const { return c_.width() + conv_.channels + c_.heads; }
  Tensor x(const Tensor& mixed) const { return mixed.col_range(0, c_.width()); }
  Tensor B(const Tensor& mixed) const { return mixed.col_range(c_.width(), c_.keys()); }
  Tensor C(const Tensor& mixed) const { return mixed.col_range(c_.width() + c_.keys(), c_.keys()); }
  Mamba2Shape shape() const { return {c_.heads, c_.head_dim, c_.groups, c_.state, c_.dt_min, c_.dt_max}; }
  Mamba2Weights weights(const DenseSet* set) const;
  void scan_backward(const Step& s, const AdapterSet& trained, const Tensor& d_projected, const Tensor& d_scanned,
                     const Tensor& projected) const;

  Mamba2Config c_;
  Site in_;
  ShortConvolution conv_;
  Vector A_log_, D_, dt_bias_;
  GatedOutput output_;
  std::vector<float> factors_;  // [columns()]; empty: all are 1
};

}  // namespace loraine
