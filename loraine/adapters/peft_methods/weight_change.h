// An adapter whose change of a weight is made of the weight itself: y_p += Δ(W_p) x, Δ made for a few rows of W at a time and never kept.
// What differs by method is Δ. Over codes W is what they stand for. Used by MiSS (bat) and HiRA.
#pragma once
#include "loraine/adapters/adapter.h"

namespace loraine {

class WeightChange : public Adapter {
 public:
  // dropout: of the input of Δ alone. base outlives the adapter.
  WeightChange(const Weight& base, std::vector<LoraPart> parts, float dropout, uint64_t site)
      : base_(base), parts_(std::move(parts)), dropout_(dropout), site_(site) {}
  int64_t saved_width() const override { return 0; }
  int64_t scratch_width() const override { return dropout_ > 0 ? 2 * base_.in() : 0; }
  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const override;
  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override;
  bool adapts(int part) const override { return number(part) < parts_.size(); }
  void merge_into(Context& ctx, const Tensor& w, int part) const override;

 protected:
  // delta [n, in] = Δ's rows [first, first + n) of parts()[i], of w, the base's rows. Both F32.
  virtual void change(Context& ctx, const Tensor& delta, const Tensor& w, size_t i, int64_t first) const = 0;
  // Adds to the gradients of the parameters what that of those rows gives; d_delta may be written over.
  virtual void change_backward(Context& ctx, const Tensor& d_delta, const Tensor& w, size_t i, int64_t first) = 0;
  // How many rows are made at a time.
  virtual int64_t rows_at_once() const { return 128; }
  const std::vector<LoraPart>& parts() const { return parts_; }
  size_t number(int part) const;  // its place in parts(), or their number
  int64_t in() const { return base_.in(); }
  uint64_t site() const { return site_; }

 private:
  const Weight& base_;
  std::vector<LoraPart> parts_;
  float dropout_;
  uint64_t site_;
};

}  // namespace loraine
