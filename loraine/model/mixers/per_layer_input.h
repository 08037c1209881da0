// Gemma's inputs per layer: every layer gets p numbers of its own for each token, looked up in a table and made from the embedding, and
// mixes them in through a gate. PerLayerInputs makes those of all layers before the first one, PerLayerInput is what each layer does with
// its own.
#pragma once
#include <memory>
#include <string>

#include "loraine/model/mixer.h"
#include "loraine/model/norm.h"

namespace loraine {

struct PerLayerInputsConfig final : MixerConfig {
  int64_t hidden_size = 0, layers = 0, width = 0, vocab_size = 0;  // width: p
  float eps = 1e-6f;                                               // of the norm
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

// (norm(projection(x) / √hidden_size) + √p · table[token]) / √2, row 0 where the table has none for a token, with one norm [p] for all
// layers. The first branch of the first layer, to which it adds nothing: what it makes is what it leaves for PerLayerInput.
class PerLayerInputs final : public Mixer {
 public:
  enum Lasting { kInputs, kGradient, kProduct, kStatistics };  // [T, layers · p] each, the statistics [layers, T]; the last three to train

  PerLayerInputs(const PerLayerInputsConfig& config, Placement& placement);
  Parts parts() override;
  bool mixes_channels() const override { return true; }
  std::vector<Tensor> plan_kept(Arena&, int64_t, Dtype) const override { return {}; }
  std::vector<Tensor> plan_lasting(Arena& arena, int64_t rows, Dtype type, bool training) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  int64_t columns() const { return c_.layers * c_.width; }
  Tensor lasting(const Step& s, Lasting which) const;
  // f(first row, number of rows, F32 room for them, their rows of the table) for the batch, piece by piece.
  template <class F>
  void for_pieces(const Step& s, const F& f) const;

  PerLayerInputsConfig c_;
  Site projection_;
  Norm norm_;
  Table table_;  // [vocab_size, layers · p]
};

struct PerLayerInputConfig final : MixerConfig {
  int64_t hidden_size = 0, width = 0, layer = 0;
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

// projection(gelu_tanh(gate(x)) · input)
class PerLayerInput final : public Mixer {
 public:
  PerLayerInput(const PerLayerInputConfig& config, Placement& placement, const std::string& layer);
  Parts parts() override { return {{&gate_, &projection_}, {}}; }
  bool mixes_channels() const override { return true; }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  Tensor of_this_layer(const Step& s, PerLayerInputs::Lasting which) const;

  PerLayerInputConfig c_;
  Site gate_, projection_;
};

}  // namespace loraine
