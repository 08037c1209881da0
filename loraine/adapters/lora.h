// LoRA (Hu et al. 2021): y = W x + s (B A dropout(x) + b), s = alpha / r, or alpha / sqrt(r) with use_rslora; b, the bias of B, only with
// lora_bias.
// The A matrices of a fused site are stacked, so x is read once; B is block-diagonal.
#pragma once
#include "loraine/adapters/adapter.h"

namespace loraine {

struct LoraConfig;
struct SiteRequest;
std::unique_ptr<Adapter> make_lora(const LoraConfig& config, SiteRequest request);

struct LoraKind {
  bool bias = false;      // B has one
  bool frozen_a = false;  // A has no gradient (LoRA-FA)
};

class Lora : public Adapter {
 public:
  // in: columns of the site; parts in order. Memory is zero-filled; trained adapters get gradients.
  Lora(int64_t in, std::vector<LoraPart> parts, float dropout, uint64_t site, bool trained, LoraKind kind = {});
  int64_t saved_width() const override { return total_rank_; }
  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const override;
  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override;
  std::optional<LowRank> low_rank() const override { return LowRank{a_, low_rank_parts_}; }
  std::vector<Parameter> parameters() const override;
  bool adapts(int part) const override;
  void merge_into(Context& ctx, const Tensor& w, int part) const override;
  MergeRow exact_merge(int part) const override;
  std::vector<AdapterMatrices> matrices() const override;
  std::vector<BiasToAdd> biases_to_add() const override;
  const Lora* as_lora() const override { return kind_.bias ? nullptr : this; }
  const std::vector<LoraPart>& parts() const { return parts_; }
  Tensor a(size_t i) const { return a_.row_range(rank_offset_[i], parts_[i].r); }  // [r, in]
  Tensor b(size_t i) const { return b_[i]; }                                       // [out, r]
  Tensor bias(size_t i) const { return kind_.bias ? bias_[i] : Tensor(); }         // [out]
  Tensor d_a(size_t i) const { return d_a_.row_range(rank_offset_[i], parts_[i].r); }
  Tensor d_b(size_t i) const { return d_b_[i]; }
  void freeze_a() { d_a_ = {}; }  // of an adapter that is trained on: A has no gradient from here on (LoRA-FA)
  float dropout_share() const { return dropout_; }
  uint64_t dropout_site() const { return site_; }

 private:
  void add_biases(Context& ctx, const Tensor& y) const;

  int64_t in_, total_rank_ = 0;
  std::vector<LoraPart> parts_;
  std::vector<int64_t> rank_offset_;
  float dropout_;
  uint64_t site_;
  bool trained_;
  LoraKind kind_;
  Buffer memory_;
  Tensor a_, d_a_;                     // [R, in]
  std::vector<Tensor> b_, d_b_;        // [out, r] each
  std::vector<Tensor> bias_, d_bias_;  // [out] each, or none
  std::vector<LowRankPart> low_rank_parts_;
};

}  // namespace loraine
