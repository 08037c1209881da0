// The dense MLP: down(act(gate(x)) · up(x)), or without a gate down(act(up(x))).
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "loraine/kernels/activations/activation.h"
#include "loraine/model/mixer.h"

namespace loraine {

struct MlpConfig final : MixerConfig {
  int64_t hidden_size = 0, intermediate_size = 0;
  Activation activation = Activation::silu;
  bool gated = true, bias = false;
  float gate_scale = 1;                  // of what the gate's matrix gives
  std::optional<float> gate_deviations;  // of a gate that is kept where it lies so far above its mean (kernels/activations/gaussian_topk)
  bool learned_activation = false;       // xIELU without a gate: act_fn.alpha_p and act_fn.alpha_n, one number each
  // Names of the modules within the layer. With `gate_up` one matrix holds both, the gate's rows first.
  std::string folder = "mlp.", gate = "gate_proj", up = "up_proj", down = "down_proj", gate_up;
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

class Mlp final : public Mixer {
 public:
  Mlp(const MlpConfig& config, Placement& placement, const std::string& layer);
  Parts parts() override;
  bool mixes_channels() const override { return true; }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  int64_t inner_columns() const { return (c_.gated ? 2 : 1) * c_.intermediate_size; }
  ActivationShape shape(const DenseSet* set) const;
  void scale_gate(const Step& s, const Tensor& inner) const;  // its own backward
  // What is kept: the columns that the product gives, of which the gate may have been thinned out; and the gate before that.
  Tensor inner(const Step& s) const { return s.kept(0).col_range(0, inner_columns()); }
  Tensor whole_gate(const Step& s) const { return s.kept(0).col_range(inner_columns(), c_.intermediate_size); }
  void act(const Step& s, const Tensor& f, const Tensor& inner) const;
  void alpha_gradients(const Step& s, const DenseSet* set, const Tensor& d_f, const Tensor& inner) const;

  MlpConfig c_;
  Site gate_up_, down_;
  Vector alpha_p_, alpha_n_;
};

}  // namespace loraine
