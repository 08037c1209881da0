// LoRA over a base that holds the codes Q of W + s B₀ A₀, of the adapter as it was when they were made: y = Q x + s (B A − B₀ A₀) x. So
// right after they were made y is that of the quantised merge, and the gradients are those of LoRA. Used by quant_aware.
#pragma once
#include "loraine/adapters/adapter.h"

namespace loraine {

class RoundedBaseLora : public Adapter {
 public:
  // The adapter of a site, whose method has A and B alone (Adapter::as_lora); at first B₀ A₀ is 0.
  RoundedBaseLora(std::unique_ptr<Adapter> adapter, int64_t in);
  void keep();  // B₀ A₀ becomes what the adapter is now

  int64_t saved_width() const override { return adapter_->saved_width() + rank_; }
  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const override;
  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override;
  int64_t scratch_width() const override { return adapter_->scratch_width(); }
  std::vector<Parameter> parameters() const override { return adapter_->parameters(); }
  bool adapts(int part) const override { return adapter_->adapts(part); }
  // Of the adapter over W.
  void merge_into(Context& ctx, const Tensor& w, int part) const override { adapter_->merge_into(ctx, w, part); }
  MergeRow exact_merge(int part) const override { return adapter_->exact_merge(part); }
  std::vector<AdapterMatrices> matrices() const override { return adapter_->matrices(); }
  void refresh(Context& ctx) override { adapter_->refresh(ctx); }
  void finish_gradients(Context& ctx) override { adapter_->finish_gradients(ctx); }
  const Lora* as_lora() const override { return adapter_->as_lora(); }

 private:
  std::unique_ptr<Adapter> adapter_;
  int64_t rank_ = 0;  // of all parts together
  std::vector<LoraPart> parts_;
  Buffer memory_;
  Tensor a_;               // [R, in]
  std::vector<Tensor> b_;  // [out, r] each
};

}  // namespace loraine
