// Multi-head latent attention (DeepSeek's MLA): keys and values of all heads come out of one narrow latent per token, beside a few columns
// that turn and that all heads share; queries may come out of a latent too.
#pragma once
#include <memory>
#include <string>

#include "loraine/kernels/attention/attention.h"
#include "loraine/kernels/rows/deal_columns.h"
#include "loraine/model/mixer.h"
#include "loraine/model/mixers/temperature.h"
#include "loraine/model/norm.h"
#include "loraine/model/rope.h"

namespace loraine {

struct LatentAttentionConfig final : MixerConfig {
  int64_t hidden_size = 0, heads = 0;
  int64_t q_rank = 0, kv_rank = 0;  // widths of the latents; q_rank 0: queries come from x
  // Columns of a head of q and k that stand still and, after them, that turn; columns of a head of v.
  int64_t nope_dim = 0, rope_dim = 0, value_dim = 0;
  float scale = 0;
  std::shared_ptr<const Rope> rope;  // of rope_dim columns; nothing: no rotation
  NormConfig latent_norm;            // of both; eps is the modules' own 1e-6 whatever config.json says
  bool bias = false;                 // of the products with x and of the output
  Temperature temperature;
  std::string folder = "self_attn.", output = "o_proj";

  int64_t key_dim() const { return nope_dim + rope_dim; }
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

class LatentAttention final : public Mixer {
 public:
  LatentAttention(const LatentAttentionConfig& config, Placement& placement, const std::string& layer);
  Parts parts() override;
  bool mixes_channels() const override { return false; }
  int64_t shares_up_to() const override { return c_.rope ? c_.rope->alike_up_to() : INT64_MAX; }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  size_t thread_bytes(const PassNeed& need) const override;
  // Keys and values of every head, not the latent: a row is large, and decoding needs no products with what lies in the cache.
  std::vector<Tensor> plan_carried(Arena& arena, int64_t rows, int64_t sequences, Dtype type) const override;
  double flops(int64_t tokens) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  // What x gives, the norms' statistics, k, v, o, log-sum-exp, and q where it has a latent.
  enum Kept { kDown, kStatistics, kK, kV, kO, kLse, kQ };

  int64_t q_size() const { return c_.heads * c_.key_dim(); }
  int64_t v_size() const { return c_.heads * c_.value_dim; }
  int64_t down_q() const { return c_.q_rank > 0 ? c_.q_rank : q_size(); }
  int64_t down_columns() const { return down_q() + c_.kv_rank + c_.rope_dim; }
  int64_t expanded_columns() const { return c_.heads * (c_.nope_dim + c_.value_dim); }
  // Columns of kDown: the latent of q or q itself, that of k and v, the shared columns of k.
  Tensor q_part(const Tensor& down) const { return down.col_range(0, down_q()); }
  Tensor latent(const Tensor& down) const { return down.col_range(down_q(), c_.kv_rank); }
  Tensor shared_key(const Tensor& down) const { return down.col_range(down_q() + c_.kv_rank, c_.rope_dim); }
  Tensor q(const Step& s) const { return c_.q_rank > 0 ? s.kept(kQ) : q_part(s.kept(kDown)); }
  AttentionShape shape() const;

  void project(const Step& s, const Tensor& x) const;
  void attend(const Step& s) const;
  void keys_and_values_backward(const Step& s, AdapterSet& trained, const Tensor& d_down, const Tensor& d_k, const Tensor& d_v) const;
  void queries_backward(const Step& s, AdapterSet& trained, const Tensor& d_down, const Tensor& d_q) const;

  LatentAttentionConfig c_;
  Site down_, q_up_, kv_up_, output_;
  Norm q_norm_, kv_norm_;
  Rope query_rope_, key_rope_;            // the same, for whole heads and for the shared columns
  std::vector<ColumnBlock> to_k_, to_v_;  // from the product with the latent, per head [k | v]
  std::vector<ColumnBlock> to_heads_;     // the shared columns into each head of k
};

}  // namespace loraine
