// Two low ranks, one added and one taken off.
#include "loraine/train/quant_aware/rounded_base_lora.h"

#include <cstring>

#include "loraine/kernels/products/matmul.h"

namespace loraine {

RoundedBaseLora::RoundedBaseLora(std::unique_ptr<Adapter> adapter, int64_t in) : adapter_(std::move(adapter)) {
  int64_t elements = 0;
  for (const AdapterMatrices& m : adapter_->matrices()) {
    parts_.push_back(m.part);
    rank_ += m.part.r;
    elements += m.b.numel();
  }
  memory_ = Buffer(static_cast<size_t>(elements + rank_ * in) * sizeof(float), true);
  float* next = static_cast<float*>(memory_.data());
  a_ = Tensor(next, Dtype::F32, {rank_, in});
  next += rank_ * in;
  for (const LoraPart& part : parts_) {
    b_.emplace_back(next, Dtype::F32, std::initializer_list<int64_t>{part.out, part.r});
    next += part.out * part.r;
  }
}

void RoundedBaseLora::keep() {
  int64_t row = 0;
  const std::vector<AdapterMatrices> now = adapter_->matrices();
  for (size_t i = 0; i < now.size(); ++i) {
    const Tensor a = a_.row_range(row, parts_[i].r);
    std::memcpy(a.data, now[i].a.data, a.bytes());
    std::memcpy(b_[i].data, now[i].b.data, b_[i].bytes());
    row += parts_[i].r;
  }
}

void RoundedBaseLora::forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const {
  adapter_->forward(ctx, y, x, saved.col_range(0, adapter_->saved_width()), training, scratch);
  const Tensor before = saved.col_range(adapter_->saved_width(), rank_);
  matmul_nt(ctx, before, x, a_);
  for (size_t i = 0, at = 0; i < parts_.size(); at += static_cast<size_t>(parts_[i++].r))
    matmul_nt(ctx, y.col_range(parts_[i].offset, parts_[i].out), before.col_range(static_cast<int64_t>(at), parts_[i].r), b_[i],
              -parts_[i].scale, 1);
}

void RoundedBaseLora::backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) {
  adapter_->backward(ctx, d_x, d_y, x, saved.col_range(0, adapter_->saved_width()), scratch);
  if (!d_x.data) return;
  const Tensor before = saved.col_range(adapter_->saved_width(), rank_);  // what the forward kept there is not needed
  for (size_t i = 0, at = 0; i < parts_.size(); at += static_cast<size_t>(parts_[i++].r))
    matmul_nn(ctx, before.col_range(static_cast<int64_t>(at), parts_[i].r), d_y.col_range(parts_[i].offset, parts_[i].out), b_[i],
              -parts_[i].scale, 0);
  matmul_nn(ctx, d_x, before, a_, 1, 1);
}

}  // namespace loraine
