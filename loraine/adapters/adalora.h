// AdaLoRA (Zhang et al. 2023): y = W x + s B (E ∘ A) dropout(x), E one number per rank, s = alpha / (init_r + 1e-5). E ∘ A is kept beside
// A, so that the products are LoRA's. Which ranks live, rank_budget decides.
#pragma once
#include "loraine/adapters/lora.h"

namespace loraine {

std::unique_ptr<Adapter> make_adalora(const LoraConfig& config, SiteRequest request);

class AdaLora : public Adapter {
 public:
  AdaLora(int64_t in, std::vector<LoraPart> parts, float dropout, uint64_t site, bool trained);
  int64_t saved_width() const override { return lora_.saved_width(); }
  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const override {
    lora_.forward(ctx, y, x, saved, training, scratch);
  }
  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override {
    lora_.backward(ctx, d_x, d_y, x, saved, scratch);
  }
  std::vector<Parameter> parameters() const override;
  bool adapts(int part) const override { return lora_.adapts(part); }
  void merge_into(Context& ctx, const Tensor& w, int part) const override { lora_.merge_into(ctx, w, part); }
  MergeRow exact_merge(int part) const override { return lora_.exact_merge(part); }
  void initialise(Context& ctx, uint64_t seed) override;  // A and B normal with deviation 0.02, E zero
  void refresh(Context& ctx) override;                    // E ∘ A
  void finish_gradients(Context& ctx) override;           // of A and E, from that of E ∘ A
  const Lora* as_lora() const override { return &lora_; }

  struct Triplets {  // of one part; gradients without data when not trained
    std::string name;
    Tensor a, e, b, d_a, d_e, d_b;  // [r, in], [r, 1], [out, r]
  };
  std::vector<Triplets> triplets() const;

 private:
  Lora lora_;
  uint64_t site_;
  bool trained_;
  Buffer memory_;
  std::vector<Tensor> a_, e_, d_a_, d_e_;  // one per part
};

}  // namespace loraine
