// DoRA (Liu et al. 2024): y = b + (m / n) ∘ (W x + s B A x), n the norm of each row of W + s B A, m [out] trained. n counts as a constant
// in the backward, as in PEFT. With dropout: y = W x + b + (m/n − 1) ∘ W x_d + (m/n) ∘ s B A x_d, x_d = dropout(x).
#pragma once
#include "loraine/adapters/lora.h"

namespace loraine {

std::unique_ptr<Adapter> make_dora(const LoraConfig& config, SiteRequest request);

class Dora : public Adapter {
 public:
  // base: the weight it lies on, which has to outlive it.
  Dora(const Weight& base, std::vector<LoraPart> parts, float dropout, uint64_t site, bool trained);
  int64_t saved_width() const override { return lora_.saved_width() + base_.out(); }  // A x, then the output before the magnitudes
  int64_t scratch_width() const override { return dropout_ > 0 ? base_.in() : 0; }
  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const override;
  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override;
  void site_backward(Context& ctx, const Weight& base, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved,
                     Arena& scratch) override;
  std::vector<Parameter> parameters() const override;
  bool adapts(int part) const override { return lora_.adapts(part); }
  void merge_into(Context& ctx, const Tensor& w, int part) const override;
  MergeRow exact_merge(int part) const override;
  std::vector<AdapterMatrices> matrices() const override { return lora_.matrices(); }
  void initialise(Context& ctx, uint64_t seed) override;  // m = n
  void refresh(Context& ctx) override;                    // n and m / n
  const Lora& lora() const { return lora_; }              // without dropout
  float dropout_share() const { return dropout_; }
  uint64_t dropout_site() const { return site_; }
  int64_t out() const { return base_.out(); }
  const float* magnitude() const { return magnitude_.data(); }  // [out]

 private:
  // y [T, out] over the adapted columns; the others are left.
  void scale(Context& ctx, const Tensor& y, const Tensor& x, const std::vector<float>& factors, const float* offset, bool accumulate) const;

  const Weight& base_;
  Lora lora_;  // dropout, where there is any, is done here: the base sees what A sees
  float dropout_;
  uint64_t site_;
  bool trained_;
  std::vector<float> magnitude_, d_magnitude_;          // [out] of the whole site; parts that are not adapted stay 0
  std::vector<float> norm_, factor_, factor_less_one_;  // n, m / n, m / n − 1
  std::vector<float> bias_, minus_bias_;                // [out], 0 where nothing is adapted; empty when the base has no bias
  std::vector<float> zero_, minus_one_;                 // [out], with dropout only
  std::vector<double> base_squares_;                    // ‖row of W‖², computed once
};

}  // namespace loraine
