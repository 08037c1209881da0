// Alternating updates (AltUp, Gemma 3n): the model has several residual streams, of which layers work on the first one, x. The others lie
// beside it in what AltUpStart leaves; mixers/altup.h is what each layer does with them, AltUpEnd brings all together.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/kernels/rows/streams.h"
#include "loraine/model/mixer.h"

namespace loraine {

struct AltUpShape {
  int64_t hidden_size = 0, streams = 0, layers = 0;
  size_t start_branch = 0;  // of the first layer: where AltUpStart stands
  int64_t beside() const { return (streams - 1) * hidden_size; }
};

// The streams beside x as layer `layer` finds them, or with the number of layers as the last one leaves them: [T, beside()] in the
// activations' type. Without training all are the same memory.
Tensor altup_beside(const Step& s, const AltUpShape& shape, int64_t layer);
// Their gradients, behind that of the prediction of x, which AltUpCorrect gives: [T, streams · hidden_size] F32.
Tensor altup_gradients(const Step& s, const AltUpShape& shape);

struct AltUpStartConfig final : MixerConfig {
  AltUpShape shape;
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

// stream i = altup_projections[i − 1](x) with the size of x. Adds nothing to x.
class AltUpStart final : public Mixer {
 public:
  AltUpStart(const AltUpStartConfig& config, Placement& placement);
  Parts parts() override;
  bool mixes_channels() const override { return true; }
  std::vector<Tensor> plan_kept(Arena&, int64_t, Dtype) const override { return {}; }
  // To train: the streams of every layer, their gradients, and what the matrices give; else the streams alone.
  std::vector<Tensor> plan_lasting(Arena& arena, int64_t rows, Dtype type, bool training) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  Tensor products(const Step& s) const;

  AltUpShape shape_;
  std::vector<Site> projections_;
};

struct AltUpEndConfig final : MixerConfig {
  AltUpShape shape;
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

// The mean of all streams, those beside x through altup_unembed_projections[i − 1] and with the size of x; less x itself.
class AltUpEnd final : public Mixer {
 public:
  AltUpEnd(const AltUpEndConfig& config, Placement& placement);
  Parts parts() override;
  bool mixes_channels() const override { return true; }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  AltUpShape shape_;
  std::vector<Site> projections_;
};

// Views of streams, in room of their own.
class StreamViews {
 public:
  StreamViews() = default;
  // x, and those that lie side by side in `beside` [T, n · C].
  StreamViews(const Tensor& x, const Tensor& beside);
  void add(const Tensor& stream);
  operator std::span<const Tensor>() const { return {all_, count_}; }

 private:
  Tensor all_[kMostStreams];
  size_t count_ = 0;
};

}  // namespace loraine
