// Lightning attention as MiniMax has it: q, k and v through an activation, linear attention with a fixed decay per head, a norm over all
// heads with a gate beside it, output.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/kernels/activations/activation.h"
#include "loraine/kernels/recurrent/lightning.h"
#include "loraine/kernels/rows/deal_columns.h"
#include "loraine/model/mixer.h"
#include "loraine/model/mixers/recurrent.h"

namespace loraine {

struct LightningAttentionConfig final : MixerConfig {
  int64_t hidden_size = 0, heads = 0, head_dim = 0;
  std::vector<float> decay;  // [heads] logarithms, at most 0
  Activation activation = Activation::silu;
  float norm_eps = 1e-6f;
  std::string folder = "self_attn.";
  int64_t width() const { return heads * head_dim; }
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

class LightningAttention final : public Mixer {
 public:
  LightningAttention(const LightningAttentionConfig& config, Placement& placement, const std::string& layer);
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

  // Columns of the product: [q | k | v] per head, and the gate; of the activations, once dealt: [q | k | v].
  Tensor qkv(const Tensor& t) const { return t.col_range(0, 3 * c_.width()); }
  Tensor gate(const Tensor& t) const { return t.col_range(3 * c_.width(), c_.width()); }
  Tensor part(const Tensor& t, int64_t which) const { return t.col_range(which * c_.width(), c_.width()); }
  Tensor decay() const { return Tensor(const_cast<float*>(c_.decay.data()), Dtype::F32, {c_.heads}); }
  LightningShape shape() const { return {c_.heads, c_.head_dim, c_.head_dim}; }
  Tensor activated(const Step& s) const;  // [T, q | k | v] in scratch

  LightningAttentionConfig c_;
  Site in_;
  GatedOutput output_;
  std::vector<ColumnBlock> deal_;  // from per head to [q | k | v]
};

}  // namespace loraine
