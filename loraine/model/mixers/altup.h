// What each layer of a model with alternating updates does around its mixers: it predicts all streams from all before they run
// (AltUpPredict), and corrects the predictions by what came out (AltUpCorrect). Rows are treated one by one.
#pragma once
#include <memory>
#include <string>

#include "loraine/model/mixers/altup_streams.h"
#include "loraine/model/mixers/per_layer_input.h"
#include "loraine/model/norm.h"

namespace loraine {

struct AltUpPredictConfig final : MixerConfig {
  AltUpShape shape;
  NormConfig router_norm;
  std::string folder = "altup.", router = "modality_router", coefficients = "prediction_coefs";
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

// The change of x by the layer's prediction: row 0 of a matrix [streams, streams] per token times the streams. Its other rows are what
// AltUpCorrect predicts the other streams with.
class AltUpPredict final : public Mixer {
 public:
  enum Kept { kStatistics, kModalities, kMatrix };  // of the router's norm; [T, streams] F32; [T, streams²] F32

  AltUpPredict(const AltUpPredictConfig& config, Placement& placement, const std::string& layer);
  Parts parts() override;
  bool mixes_channels() const override { return true; }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

  // modalities [T, streams] F32 = tanh(router(norm(x)) / hidden_size); the layer has one router for what comes in and what came out.
  void route(const Step& s, const Tensor& modalities, const Tensor& statistics, const Tensor& x) const;
  // d_x += …, where it has data; d_modalities is overwritten. again: adapters at the router have seen other rows since.
  void route_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_modalities, const Tensor& modalities,
                      const Tensor& statistics, const Tensor& x, bool again) const;
  size_t route_bytes(const PassNeed& need) const;

 private:
  AltUpShape shape_;
  Norm norm_;
  Site router_, prediction_;
};

struct AltUpCorrectConfig final : MixerConfig {
  AltUpShape shape;
  size_t predict_branch = 0;  // of its layer
  std::string folder = "altup.", coefficients = "correction_coefs", output_scale = "correct_output_scale";
  bool scales_output = true;
  // transformers, which bounds the coefficients in training, takes the matrix itself there: an adapter on it has no effect until it is
  // asked for answers, and learns nothing.
  bool bounded = true;
  PerLayerInputConfig input;  // whose output, normalised, joins the streams beside x
  NormConfig input_norm;
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

// With the innovation d = x − (the prediction of x) and factors k per token and stream: adds k₀ · d to x, and leaves for the next layer
// each other stream's prediction + (1 + kᵢ) · d + norm(per_layer_input(output_scale · x)).
class AltUpCorrect final : public Mixer {
 public:
  AltUpCorrect(const AltUpCorrectConfig& config, Placement& placement, const std::string& layer);
  Parts parts() override;
  bool mixes_channels() const override { return true; }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  // Statistics of both norms; [T, streams] F32 each; [T, C] before the norm; then what the per-layer input keeps.
  enum Kept { kRouterStatistics, kInputStatistics, kModalities, kFactors, kGiven, kInput };

  const AltUpPredict& predict(const Step& s) const;
  const BranchActivations& of_branch(const Step& s, size_t branch) const;
  Step of_input(const Step& s) const;
  void correct(const Step& s, const Tensor& factors, const Tensor& modalities) const;
  void correct_backward(const Step& s, AdapterSet& trained, const Tensor& d_modalities, const Tensor& d_factors,
                        const Tensor& modalities) const;
  Tensor innovation(const Step& s, const Tensor& x) const;  // F32, in scratch
  // What the per-layer input reads, in scratch; corrected [T, C]: x + k₀ · d.
  Tensor scaled_output(const Step& s, const Tensor& corrected) const;
  // [T, (streams − 1) · (streams + 2)]: the other streams of all streams, d and what the per-layer input gives.
  Tensor matrix_beside(const Step& s) const;

  AltUpCorrectConfig c_;
  Site correction_;
  Vector output_scale_;
  PerLayerInput input_;
  Norm input_norm_;
};

}  // namespace loraine
