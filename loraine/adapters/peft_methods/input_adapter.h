// An adapter that changes what the base multiplies: y_p = l_p ∘ W_p f_p(x) + b_p for each adapted part p of the site, the others as they
// are; few methods have an l. What differs by method is f. Its products are those with the base itself, in whatever codes it lies.
#pragma once
#include "loraine/adapters/adapter.h"

namespace loraine {

class InputAdapter : public Adapter {
 public:
  InputAdapter(int64_t in, std::vector<LoraPart> parts) : in_(in), parts_(std::move(parts)) {}
  int64_t saved_width() const override { return 0; }  // with an l the outputs of all parts()
  int64_t scratch_width() const override { return in_; }
  bool takes_base() const override { return true; }
  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const override;
  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override;
  void site_forward(Context& ctx, const Weight& base, const Tensor& y, const Tensor& x, const Tensor& saved, bool training,
                    Arena& scratch) const override;
  void site_backward(Context& ctx, const Weight& base, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved,
                     Arena& scratch) override;
  bool adapts(int part) const override;

 protected:
  // out [T, in] = f of parts()[i] of x [T, in]
  virtual void change(Context& ctx, const Tensor& out, const Tensor& x, size_t i, Arena& scratch) const = 0;
  // d_x [T, in] (+)= through f (skipped when its data is nullptr); gradients of the parameters are accumulated.
  virtual void change_backward(Context& ctx, const Tensor& d_x, const Tensor& d_out, const Tensor& x, size_t i, bool accumulate,
                               Arena& scratch) = 0;
  // l [out] of parts()[i] and its gradient; nullptr: none.
  virtual const float* output_factors(size_t) const { return nullptr; }
  virtual float* output_factor_gradients(size_t) { return nullptr; }
  const std::vector<LoraPart>& parts() const { return parts_; }
  int64_t in() const { return in_; }

 private:
  int64_t in_;
  std::vector<LoraPart> parts_;
};

}  // namespace loraine
