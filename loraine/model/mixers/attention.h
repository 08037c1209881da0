// Attention with grouped queries: q k v, norms of heads, rotation, softmax, output.
#pragma once
#include <memory>
#include <string>

#include "loraine/kernels/attention/attention.h"
#include "loraine/kernels/rows/deal_columns.h"
#include "loraine/model/mixer.h"
#include "loraine/model/norm.h"
#include "loraine/model/rope.h"

namespace loraine {

// What a norm of q or k takes at once, and its weights: each head by itself, with one weight [head_dim] for all, with a row of a weight
// [heads, head_dim], with a tensor of its own (`name`.0, `name`.1, …); or all heads as one row.
enum class HeadNorms { shared, rows, tensors, whole };

// Keys and values of one layer that later ones attend to in the place of their own (Gemma 4): the layer that has them, those that read them
// and the last of these, with which the backward begins to add up their gradient.
enum class SharedKv { none, gives, reads, reads_last };

struct AttentionConfig final : MixerConfig {
  int64_t hidden_size = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int64_t window = 0, chunk = 0;  // kernels/attention/attention.h
  float scale = 0, softcap = 0;
  bool sinks = false;
  std::shared_ptr<const Rope> rope;  // nothing: no rotation
  NormConfig q_norm, k_norm, v_norm;
  HeadNorms head_norms = HeadNorms::shared;
  bool norm_after_rope = false;
  bool q_bias = false, k_bias = false, v_bias = false, output_bias = false;
  // Names of the modules within the layer. Without `v` the values are what k_proj gives. With `qkv` one matrix holds all three, [q | k |
  // v], or per head [q | k | v] when `qkv_by_head`.
  std::string folder = "self_attn.", q = "q_proj", k = "k_proj", v = "v_proj", output = "o_proj", qkv, sinks_name = "sinks";
  bool qkv_by_head = false;
  // What comes out of attention times sigmoid(gate): `gate` names a matrix of its own, or q_proj gives [q | gate] per head.
  std::string gate;
  bool gate_in_q = false;
  // q · (1 + beta · ln(1 + floor((position + offset) / length))); 0: none.
  float temperature_beta = 0, temperature_offset = 0;
  int64_t temperature_length = 1;
  float clip = 0;  // q, k and v are kept within ±clip; 0: they are not
  SharedKv shared_kv = SharedKv::none;
  int64_t kv_layer = 0;  // where the branch that gives them stands
  size_t kv_branch = 0;

  int64_t q_size() const { return heads * head_dim; }
  int64_t kv_size() const { return kv_heads * head_dim; }
  bool gated() const { return gate_in_q || !gate.empty(); }
  bool reads_kv() const { return shared_kv == SharedKv::reads || shared_kv == SharedKv::reads_last; }
  int64_t own_kv_size() const { return reads_kv() ? 0 : kv_size(); }
  std::unique_ptr<Mixer> place(Placement& placement, const std::string& layer) const override;
};

class Attention final : public Mixer {
 public:
  Attention(const AttentionConfig& config, Placement& placement, const std::string& layer);
  Parts parts() override;
  bool mixes_channels() const override { return false; }
  int64_t shares_up_to() const override { return c_.rope ? c_.rope->alike_up_to() : INT64_MAX; }
  std::vector<Tensor> plan_kept(Arena& arena, int64_t rows, Dtype type) const override;
  std::vector<Tensor> plan_lasting(Arena& arena, int64_t rows, Dtype type, bool training) const override;
  size_t scratch_bytes(const PassNeed& need) const override;
  size_t thread_bytes(const PassNeed& need) const override;
  std::vector<Tensor> plan_carried(Arena& arena, int64_t rows, int64_t sequences, Dtype type) const override;
  double flops(int64_t tokens) const override;
  void forward(const Step& s, const Tensor& y, const Tensor& x) const override;
  void backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const override;

 private:
  // The last two, where something needs them: q, k and v before their norms, or as they were clipped; the norms' statistics.
  enum Kept { kQkv, kO, kLse, kBefore, kStatistics };

  enum Lasting { kShared, kSharedGradient };  // [T, k | v] for later layers, and the F32 sum of what they give it

  // Columns of qkv after they were dealt: [q | k | v | gate], without k and v where they are another layer's.
  Tensor q(const Tensor& t) const { return t.col_range(0, c_.q_size()); }
  Tensor k(const Tensor& t) const { return t.col_range(c_.q_size(), c_.kv_size()); }
  Tensor v(const Tensor& t) const { return t.col_range(c_.q_size() + c_.kv_size(), c_.kv_size()); }
  Tensor gate(const Tensor& t) const { return t.col_range(c_.q_size() + 2 * c_.own_kv_size(), c_.q_size()); }
  Tensor kv(const Tensor& t) const { return t.col_range(c_.q_size(), 2 * c_.kv_size()); }
  int64_t qkv_columns() const { return (c_.gated() ? 2 : 1) * c_.q_size() + 2 * c_.own_kv_size(); }
  Tensor shared(const Step& s, Lasting which) const;  // of the layer that gives them
  AttentionShape shape() const;
  AttentionShape shape(const Step& s) const;
  bool normed() const { return !slices_.empty(); }
  bool values_are_keys() const { return c_.qkv.empty() && c_.v.empty() && !c_.reads_kv(); }

  void project(const Step& s, const Tensor& qkv, const Tensor& x) const;
  void norm_heads(const Step& s, const Tensor& qkv) const;
  void norm_heads_backward(const Step& s, const AdapterSet& trained, const Tensor& d_qkv) const;
  void heat(const Step& s, const Tensor& q) const;       // temperature; its own backward
  void prepare(const Step& s, const Tensor& qkv) const;  // norms, rotation, temperature
  void prepare_backward(const Step& s, const AdapterSet& trained, const Tensor& d_qkv) const;
  void attend(const Step& s, const Tensor& o, const Tensor& lse, const Tensor& qkv) const;
  void attend_backward(const Step& s, AdapterSet& trained, const Tensor& d_qkv, const Tensor& d_o) const;

  AttentionConfig c_;
  Site qkv_, output_;
  struct Slice {  // columns of qkv that are normalised as one
    int64_t first, width;
    size_t norm;
    int64_t row;  // of the norm's weight
  };
  void add_slices(Placement& placement, const std::string& folder, const NormConfig& norm, int64_t first, int64_t heads);

  std::vector<Norm> norms_;
  std::vector<Slice> slices_;
  Vector sinks_;
  std::vector<ColumnBlock> deal_;  // how the product's columns become [q | k | v | gate]; empty: they are
};

}  // namespace loraine
