// The mixer of Gated DeltaNet and of Kimi Delta Attention: q, k and v through a short convolution, the gated delta rule, a norm of each
// head with a gate beside it, output.
#pragma once
#include <memory>
#include <string>

#include "loraine/kernels/recurrent/gated_delta.h"
#include "loraine/kernels/recurrent/gated_norm.h"
#include "loraine/kernels/rows/deal_columns.h"
#include "loraine/model/mixer.h"
#include "loraine/model/mixers/recurrent.h"

namespace loraine {

// How the projections are cut into matrices.
enum class DeltaProjections {
  parts,     // in_proj_qkv [q | k | v], in_proj_z, in_proj_b, in_proj_a: Qwen 3.5
  by_key,    // in_proj_qkvz, in_proj_ba: of each key head q, k, v, z and b, a of the value heads that it serves: Qwen3-Next
  separate,  // q_proj, k_proj, v_proj, g_proj (the gate), b_proj, a_proj, and a convolution each for q, k and v: OLMo Hybrid
  low_rank,  // the same, but the gate is g_b_proj(g_a_proj x) and a is forget_gate.f_b_proj(forget_gate.f_a_proj x): Kimi Linear
};

struct GatedDeltaNetConfig final : MixerConfig {
  int64_t hidden_size = 0, key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  int64_t taps = 4;
  float norm_eps = 1e-6f, largest_beta = 1;
  GateActivation gate = GateActivation::silu;
  DeltaProjections projections = DeltaProjections::parts;
  int64_t rank = 0;            // of the gate's and the decay's matrices, with low_rank
  bool channel_decay = false;  // each channel of the keys forgets at its own rate, not each head
  std::string folder = "linear_attn.", norm = "norm", output = "out_proj";
  int64_t keys() const { return key_heads * key_dim; }
  int64_t values() const { return value_heads * value_dim; }
  int64_t decays() const { return channel_decay ? keys() : value_heads; }
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

class GatedDeltaNet final : public Mixer {
 public:
  GatedDeltaNet(const GatedDeltaNetConfig& config, Placement& placement, const std::string& layer);
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
  enum Kept { kProjected, kO, kBorders };

  // Columns of the projections after they were dealt: [q | k | v | z | b | f | g | a]; f and g [rank] are what a and z are made of with
  // low_rank.
  Tensor q(const Tensor& t) const { return t.col_range(0, c_.keys()); }
  Tensor k(const Tensor& t) const { return t.col_range(c_.keys(), c_.keys()); }
  Tensor v(const Tensor& t) const { return t.col_range(2 * c_.keys(), c_.values()); }
  Tensor z(const Tensor& t) const { return t.col_range(mixed_columns(), c_.values()); }
  Tensor b(const Tensor& t) const { return t.col_range(mixed_columns() + c_.values(), c_.value_heads); }
  Tensor f(const Tensor& t) const { return t.col_range(mixed_columns() + c_.values() + c_.value_heads, c_.rank); }
  Tensor g(const Tensor& t) const { return t.col_range(mixed_columns() + c_.values() + c_.value_heads + c_.rank, c_.rank); }
  Tensor a(const Tensor& t) const { return t.col_range(columns() - c_.decays(), c_.decays()); }
  int64_t mixed_columns() const { return 2 * c_.keys() + c_.values(); }
  int64_t columns() const { return mixed_columns() + c_.values() + c_.value_heads + 2 * c_.rank + c_.decays(); }
  // Those of the two products with x, where there are two.
  Tensor first(const Tensor& t) const { return t.col_range(0, mixed_columns() + (low_rank() ? 0 : c_.values())); }
  Tensor second(const Tensor& t) const {
    return t.col_range(mixed_columns() + c_.values(), c_.value_heads + (low_rank() ? 2 * c_.rank : c_.decays()));
  }
  bool low_rank() const { return c_.projections == DeltaProjections::low_rank; }
  bool two_products() const { return low_rank() || c_.projections == DeltaProjections::separate; }
  GatedDeltaShape shape() const;

  void place_projections(Placement& placement, const std::string& folder);
  void add_convolution(Placement& placement, const std::string& path, int64_t channels);
  void project(const Step& s, const Tensor& projected, const Tensor& x) const;
  void project_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_projected, const Tensor& x) const;
  void convolve(const Step& s, const Tensor& mixed, const Tensor& projected, bool decoding) const;
  // What the recurrence reads beside qkv after the convolution.
  struct Gates {
    Tensor g, beta;  // [T, decays], [T, value_heads] F32
  };
  Gates gates(const Step& s, const DenseSet* set, const Tensor& projected) const;
  Gates gates_room(const Step& s) const { return {s.scratch(Dtype::F32, c_.decays()), s.scratch(Dtype::F32, c_.value_heads)}; }
  void gates_backward(const Step& s, const AdapterSet& trained, const Tensor& d_projected, const Gates& d, const Gates& gates,
                      const Tensor& projected) const;
  void add_decay_rates(const Step& s, const Tensor& d_A_log, const Tensor& d_g, const Tensor& g) const;

  GatedDeltaNetConfig c_;
  Site in_, gates_;                             // gates_: the second product with x (a site has few parts)
  Site decay_up_, gate_up_;                     // with low_rank, f to a and g to z
  std::vector<ShortConvolution> convolutions_;  // over q, k and v, together or each by itself
  Vector A_log_, dt_bias_;
  GatedOutput output_;
  std::vector<ColumnBlock> deal_;  // how the product's columns become [q | k | v | z | b | a]; empty: they are
};

}  // namespace loraine
