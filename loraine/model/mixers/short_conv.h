// LFM2's short convolution: [B | C | x] = in_proj(x); out_proj(C · conv(B · x)), all products of the middle channel by channel.
#pragma once
#include <memory>
#include <string>

#include "loraine/model/mixer.h"
#include "loraine/model/mixers/recurrent.h"

namespace loraine {

struct ShortConvConfig final : MixerConfig {
  int64_t hidden_size = 0, taps = 0;
  bool bias = false;  // of the convolution and of both matrices
  std::string folder = "conv.";
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

class ShortConv final : public Mixer {
 public:
  ShortConv(const ShortConvConfig& config, Placement& placement, const std::string& layer);
  Parts parts() override;
  bool mixes_channels() const override { return false; }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  std::vector<Tensor> plan_carried(Arena& arena, int64_t rows, int64_t sequences, Dtype type) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  // Columns of what in_proj gives.
  Tensor part(const Tensor& t, int64_t which) const { return t.col_range(which * c_.hidden_size, c_.hidden_size); }
  // gated = B · x, mixed = conv(gated)
  void mix(const Step& s, const Tensor& mixed, const Tensor& gated, const Tensor& projected, const Tensor& state) const;

  ShortConvConfig c_;
  Site in_, out_;
  ShortConvolution conv_;
};

}  // namespace loraine
