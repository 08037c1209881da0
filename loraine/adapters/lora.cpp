// LoRA forward, backward and merge on stacked matrices.
#include "loraine/adapters/lora.h"

#include <algorithm>

#include "loraine/adapters/dense.h"
#include "loraine/adapters/dropped_input.h"
#include "loraine/adapters/embedding_lora.h"
#include "loraine/adapters/expert_lora.h"
#include "loraine/adapters/methods.h"
#include "loraine/adapters/peft_methods/method_tensors.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/training/dense_gradients.h"

namespace loraine {

std::vector<Parameter> AdapterSet::parameters() const {
  std::vector<Parameter> all;
  for (const auto& site : sites) {
    if (!site) continue;
    for (Parameter& p : site->parameters()) all.push_back(std::move(p));
  }
  if (shared) all.insert(all.end(), shared->parameters().begin(), shared->parameters().end());
  for (size_t i = 0; dense && i < dense->parameters.size(); ++i) {
    const auto only_rows = [&](const TokenRows& t) { return t.base_name == dense->base_name[i] && !t.table_stored; };
    if (std::ranges::none_of(token_rows, only_rows)) all.push_back(dense->parameters[i]);
  }
  if (embedding)
    for (Parameter& p : embedding->parameters()) all.push_back(std::move(p));
  for (const auto& one : experts)
    if (one)
      for (Parameter& p : one->parameters()) all.push_back(std::move(p));
  for (const TokenRows& t : token_rows) all.push_back(t.rows);
  std::sort(all.begin(), all.end(), [](const Parameter& a, const Parameter& b) { return a.name < b.name; });
  return all;
}

void AdapterSet::refresh(Context& ctx) const {
  if (shared) shared->refresh(ctx);
  for (const auto& site : sites)
    if (site) site->refresh(ctx);
  for (const auto& one : experts)
    if (one) one->refresh();
  for (const TokenRows& t : token_rows) {
    const Tensor table = dense ? dense->find(t.base_name) : Tensor();
    for (size_t i = 0; table.data && i < t.ids.size(); ++i)
      std::copy_n(t.rows.value.f32() + static_cast<int64_t>(i) * table.cols(), table.cols(), table.f32() + t.ids[i] * table.cols());
  }
}

void AdapterSet::finish_gradients(Context& ctx) const {
  for (const auto& site : sites)
    if (site) site->finish_gradients(ctx);
  for (const auto& one : experts)
    if (one) one->finish_gradients();
}

void Adapter::site_forward(Context& ctx, const Weight& base, const Tensor& y, const Tensor& x, const Tensor& saved, bool training,
                           Arena& scratch) const {
  multiply_weight(ctx, y, base, x);
  forward(ctx, y, x, saved, training, scratch);
}

void Adapter::site_backward(Context& ctx, const Weight& base, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved,
                            Arena& scratch) {
  if (d_x.data) multiply_weight_backward(ctx, d_x, base, d_y, false);
  backward(ctx, d_x, d_y, x, saved, scratch);
}

Lora::Lora(int64_t in, std::vector<LoraPart> parts, float dropout, uint64_t site, bool trained, LoraKind kind)
    : in_(in), parts_(std::move(parts)), dropout_(dropout), site_(site), trained_(trained), kind_(kind) {
  int64_t of_b = 0;  // elements of B and its bias
  for (const LoraPart& part : parts_) {
    rank_offset_.push_back(total_rank_);
    total_rank_ += part.r;
    of_b += part.out * (part.r + (kind_.bias ? 1 : 0));
  }
  const int64_t of_a = total_rank_ * in_;
  memory_ = Buffer(static_cast<size_t>(of_a + of_b + (trained_ ? of_b + (kind_.frozen_a ? 0 : of_a) : 0)) * sizeof(float), true);
  float* next = static_cast<float*>(memory_.data());
  const auto place = [&](std::vector<int64_t> shape) {
    const Tensor t(next, Dtype::F32, shape);
    next += t.numel();
    return t;
  };
  a_ = place({total_rank_, in_});
  for (const LoraPart& part : parts_) {
    b_.push_back(place({part.out, part.r}));
    if (kind_.bias) bias_.push_back(place({part.out}));
    low_rank_parts_.push_back({b_.back(), part.offset, part.scale, kind_.bias ? bias_.back().f32() : nullptr});
  }
  if (!trained_) return;
  if (!kind_.frozen_a) d_a_ = place({total_rank_, in_});
  for (const LoraPart& part : parts_) {
    d_b_.push_back(place({part.out, part.r}));
    if (kind_.bias) d_bias_.push_back(place({part.out}));
  }
}

void Lora::forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const {
  size_t mark = scratch.mark();
  const Tensor input = training ? dropped_input(ctx, x, dropout_, site_, scratch) : x;
  matmul_nt(ctx, saved, input, a_);
  for (size_t i = 0; i < parts_.size(); ++i) {
    const LoraPart& part = parts_[i];
    matmul_nt(ctx, y.col_range(part.offset, part.out), saved.col_range(rank_offset_[i], part.r), b_[i], part.scale, 1);
  }
  add_biases(ctx, y);
  scratch.release(mark);
}

// y[:, part] += s b
void Lora::add_biases(Context& ctx, const Tensor& y) const {
  for (size_t i = 0; i < bias_.size(); ++i) {
    std::vector<float> scaled(bias_[i].f32(), bias_[i].f32() + parts_[i].out);
    for (float& b : scaled) b *= parts_[i].scale;
    add_bias(ctx, y.col_range(parts_[i].offset, parts_[i].out), scaled.data());
  }
}

void Lora::backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) {
  size_t mark = scratch.mark();
  Tensor g = scratch.take(x.dtype, {x.rows(), total_rank_});  // s · dY B
  for (size_t i = 0; i < parts_.size(); ++i) {
    const LoraPart& part = parts_[i];
    Tensor d_part = d_y.col_range(part.offset, part.out);
    matmul_nn(ctx, g.col_range(rank_offset_[i], part.r), d_part, b_[i], part.scale, 0);
    matmul_tn(ctx, d_b_[i], d_part, saved.col_range(rank_offset_[i], part.r), part.scale, 1);
    if (!kind_.bias) continue;
    std::vector<float> sums(static_cast<size_t>(part.out));
    bias_gradient(ctx, Tensor(sums.data(), Dtype::F32, {part.out}), d_part);
    for (int64_t o = 0; o < part.out; ++o) d_bias_[i].f32()[o] += part.scale * sums[static_cast<size_t>(o)];
  }
  if (dropout_ > 0) {
    Tensor t = scratch.take(x.dtype, {x.rows(), in_});
    dropout(ctx, t, x, dropout_, site_);
    if (d_a_.data) matmul_tn(ctx, d_a_, g, t, 1, 1);
    if (d_x.data) {
      matmul_nn(ctx, t, g, a_);
      dropout(ctx, t, t, dropout_, site_);
      add(ctx, d_x, d_x, t);
    }
  } else {
    if (d_a_.data) matmul_tn(ctx, d_a_, g, x, 1, 1);
    if (d_x.data) matmul_nn(ctx, d_x, g, a_, 1, 1);
  }
  scratch.release(mark);
}

std::vector<Parameter> Lora::parameters() const {
  std::vector<Parameter> all;
  for (size_t i = 0; i < parts_.size(); ++i) {
    std::string prefix = "base_model.model." + parts_[i].name;
    all.push_back({prefix + ".lora_A.weight", a(i), d_a_.data ? d_a(i) : Tensor()});
    all.push_back({prefix + ".lora_B.weight", b_[i], trained_ ? d_b_[i] : Tensor()});
    if (kind_.bias) all.push_back({prefix + ".lora_B.bias", bias_[i], trained_ ? d_bias_[i] : Tensor()});
  }
  return all;
}

std::unique_ptr<Adapter> make_lora(const LoraConfig& config, SiteRequest request) {
  return std::make_unique<Lora>(request.base.in(), std::move(request.parts), static_cast<float>(config.lora_dropout), request.site,
                                request.trained, LoraKind{config.lora_bias, config.frozen_a});
}

std::vector<BiasToAdd> Lora::biases_to_add() const {
  std::vector<BiasToAdd> all;
  for (size_t i = 0; i < bias_.size(); ++i) all.push_back({parts_[i].part, parts_[i].scale, bias_[i]});
  return all;
}

std::vector<AdapterMatrices> Lora::matrices() const {
  std::vector<AdapterMatrices> all;
  for (size_t i = 0; i < parts_.size(); ++i) all.push_back({parts_[i], a(i), b(i), bias(i)});
  return all;
}

bool Lora::adapts(int part) const {
  return std::ranges::any_of(parts_, [&](const LoraPart& p) { return p.part == part; });
}

void Lora::merge_into(Context& ctx, const Tensor& w, int part) const {
  for (size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i].part == part) matmul_nn(ctx, w, b_[i], a(i), parts_[i].scale, 1);
}

MergeRow Lora::exact_merge(int part) const {
  std::vector<std::pair<ExactProduct, Tensor>> products;  // in turn, as merge_into
  for (size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i].part == part) products.emplace_back(ExactProduct(a(i), static_cast<double>(parts_[i].scale)), b_[i]);
  return [products = std::move(products)](std::span<double> w, int64_t row) {
    double error = 0;
    for (const auto& [product, b] : products) error += product.add(w, b.f32() + row * b.row_stride, 1);
    return error;
  };
}

}  // namespace loraine
