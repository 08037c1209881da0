// A mixture of experts: a router gives each row K of E MLPs, whose answers are added up by its weights; often an MLP beside them that every
// row has.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "loraine/kernels/activations/activation.h"
#include "loraine/kernels/experts/clamped_swiglu.h"
#include "loraine/kernels/experts/order.h"
#include "loraine/kernels/experts/router.h"
#include "loraine/model/mixer.h"
#include "loraine/model/mixers/mlp.h"

namespace loraine {

struct ExpertsConfig final : MixerConfig {
  int64_t hidden_size = 0, intermediate_size = 0;  // the latter of one expert
  RouterShape router;
  bool router_bias = false;
  bool router_is_linear = false;  // in transformers a layer of its own, which `all` adapts; else a bare parameter
  bool weighs_input = false;      // the weight multiplies what an expert reads (Llama 4), not what it gives
  Activation activation = Activation::silu;
  std::optional<ClampedSwiglu> clamped;  // instead of the activation
  bool gated = true, biases = false;
  // Whether the whole parameters are [E, in, out], and what A of PEFT's adapters on them gives then (ExpertWeights).
  bool transposed = false, a_gives_output = false;
  bool whole_in_files = false;  // files have the whole parameters, as a rule
  // Names within the layer. `correction` is a vector of the router that counts in choosing alone, where there is one.
  std::string folder = "mlp.", router_name = "gate", correction, experts = "experts";
  std::string expert_scale;           // a vector that multiplies the weight of each expert, where there is one
  bool correction_is_matrix = false;  // [1, E]
  // Of the whole parameters, and of an expert's own matrices in files: gate and up (or up alone), then down.
  std::string gate_up = "gate_up_proj", gate_piece = "gate_proj", up_piece = "up_proj", down = "down_proj", down_piece = "down_proj";
  std::optional<MlpConfig> shared;  // the MLP beside them
  std::string shared_gate;          // the name of a gate on it, sigmoid(W x) with one row, where there is one
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

class Experts final : public Mixer {
 public:
  Experts(const ExpertsConfig& config, Placement& placement, const std::string& layer);
  Parts parts() override;
  bool mixes_channels() const override { return true; }
  int64_t experts_per_row() const override { return c_.router.per_token; }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  size_t thread_bytes(const PassNeed& need) const override;
  double flops(int64_t tokens) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override { forward(s, y, x, x); }
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override {
    backward(s, trained, d_x, d_x, d_y, x, x);
  }
  // The same where the router reads `routed` [T, C], rows of its own. d_routed may be d_x, or has no data where nothing below it is
  // trained.
  void forward(const Step& s, const Tensor& y, const Tensor& x, const Tensor& routed) const;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_routed, const Tensor& d_y, const Tensor& x,
                const Tensor& routed) const;

 private:
  enum Kept { kLogits, kChosen, kWeights, kOffsets, kTokens, kPlaces, kInner, kSharedGate, kShared };

  int64_t inner_columns() const { return (c_.gated ? 2 : 1) * c_.intermediate_size; }
  size_t first_of_shared() const { return shared_gated() ? kShared + 1 : kSharedGate; }
  bool spread() const { return !gate_up_.stacks.empty() && gate_up_.stacks.front().step > 1; }  // gate and up of interleaved columns
  bool shared_gated() const { return !c_.shared_gate.empty(); }
  ExpertOrder order(const Step& s) const;
  Tensor rows(const Step& s, const Tensor& t) const;         // the first T · K of them
  Tensor row_scratch(const Step& s, int64_t columns) const;  // [T · K, columns]
  RouterVectors router_vectors(const DenseSet* set) const;
  bool trains_router(const AdapterSet& trained) const;
  Step of_shared(const Step& s) const;
  void find_experts(const Step& s, const Tensor& routed) const;
  void read_chosen_ahead(const Step& s) const;
  void router_backward(const Step& s, AdapterSet& trained, const Tensor& d_routed, const Tensor& d_weights, const Tensor& routed,
                       bool accumulate) const;
  void multiply(const Step& s, const Tensor& y, const Tensor& x, const ExpertWeights& weights) const;
  void multiply_matrices(const Step& s, const Tensor& to, const Tensor& from, const ExpertWeights& weights, bool back) const;
  void add_inner_biases(const Step& s, const Tensor& inner) const;
  void add_output_biases(const Step& s, const Tensor& y) const;
  void output_biases_backward(const Step& s, AdapterSet& trained, const Tensor& d_weights, const Tensor& d_y, const Tensor& d_out) const;
  void multiply_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x,
                         const ExpertWeights& weights) const;
  void act(const Step& s, const Tensor& f, const Tensor& inner) const;
  void act_backward(const Step& s, const Tensor& inner, const Tensor& d_f) const;
  void experts_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_weights, const Tensor& d_y,
                        const Tensor& x) const;
  void shared_forward(const Step& s, const Tensor& y, const Tensor& x) const;
  void shared_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const;

  ExpertsConfig c_;
  Site router_, shared_gate_;
  Vector correction_, expert_scale_, gate_up_bias_, down_bias_;
  ExpertWeights gate_up_, down_;
  std::unique_ptr<Mlp> shared_;
};

}  // namespace loraine
