// Keeps the projections, what the recurrence gives and its states between chunks; the activation is computed once more in the backward.
#include "loraine/model/mixers/lightning_attention.h"

#include <algorithm>

#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {

std::unique_ptr<Mixer> LightningAttentionConfig::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<LightningAttention>(*this, placement, layer);
}

LightningAttention::LightningAttention(const LightningAttentionConfig& config, Placement& p, const std::string& layer) : c_(config) {
  const std::string folder = layer + c_.folder;
  const int64_t C = c_.hidden_size, W = c_.width(), D = c_.head_dim;
  p.part(in_, folder + "qkv_proj", 3 * W, C, false, "3 × num_attention_heads × head_dim, hidden_size");
  p.part(in_, folder + "output_gate", W, C, false, "num_attention_heads × head_dim, hidden_size");
  output_.shape = {W, false, GateActivation::sigmoid, c_.norm_eps};
  p.vector(output_.norm, folder + "norm.weight", W);
  p.part(output_.product, folder + "out_proj", C, W, false, "hidden_size, num_attention_heads × head_dim");
  for (int64_t head = 0; head < c_.heads; ++head)
    for (int64_t which = 0; which < 3; ++which) deal_.push_back({(3 * head + which) * D, which * W + head * D, D});
}

Parts LightningAttention::parts() { return {{&in_, &output_.product}, {&output_.norm}}; }

std::vector<Tensor> LightningAttention::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  return {arena.take(type, {rows, 4 * c_.width()}), arena.take(type, {rows, c_.width()}),
          arena.take(Dtype::F32, {recurrent_border_rows(rows), shape().state_columns()})};
}

size_t LightningAttention::scratch_bytes(const PassNeed& need) const {
  const size_t type = size_of(need.type), C = static_cast<size_t>(c_.hidden_size), W = static_cast<size_t>(c_.width()),
               adapter = (std::max(C, W) + static_cast<size_t>(need.adapter_columns)) * type;
  if (!need.training) return static_cast<size_t>(need.rows) * std::max(6 * W * type, W * type + adapter);
  const size_t narrow = need.type == Dtype::F32 ? 0 : C * type;
  return static_cast<size_t>(need.rows) * (5 * W * type + std::max(9 * W * type, 2 * W * type + narrow + adapter)) + 2 * sizeof(float) * W;
}

size_t LightningAttention::thread_bytes(const PassNeed&) const { return lightning_bytes(shape()); }

std::vector<Tensor> LightningAttention::plan_carried(Arena& arena, int64_t, int64_t sequences, Dtype) const {
  return {arena.take(Dtype::F32, {sequences, shape().state_columns()})};
}

// Two products with the state for each token.
double LightningAttention::flops(int64_t tokens) const {
  return 4.0 * static_cast<double>(shape().state_columns()) * static_cast<double>(tokens);
}

Tensor LightningAttention::activated(const Step& s) const {
  const Tensor dealt = s.scratch(s.type(), 3 * c_.width());
  const size_t mark = s.pass.scratch->mark();
  const Tensor by_head = s.scratch(s.type(), 3 * c_.width());
  activate(s.ctx, by_head, qkv(s.kept(kProjected)), {c_.activation});
  deal_columns(s.ctx, dealt, by_head, deal_);
  s.pass.scratch->release(mark);
  return dealt;
}

void LightningAttention::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const Tensor projected = s.kept(kProjected), o = s.kept(kO);
  linear_forward(s, projected, x, in_);
  const size_t mark = s.pass.scratch->mark();
  const Tensor mixed = activated(s);
  const std::vector<int64_t> slots = slots_of(s);
  lightning_attention(s.ctx, o, s.decoding() ? Tensor() : s.kept_tensors[kBorders], part(mixed, 0), part(mixed, 1), part(mixed, 2), decay(),
                      s.batch.sequences, shape(), s.decoding() ? RecurrentState{s.carried[0], slots} : RecurrentState{});
  s.pass.scratch->release(mark);
  if (y.data) output_.forward(s, y, o, gate(projected));
}

void LightningAttention::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const size_t start = s.pass.scratch->mark();
  const Tensor projected = s.kept(kProjected), o = s.kept(kO), d_projected = s.scratch(s.type(), 4 * c_.width()),
               d_o = s.scratch(s.type(), c_.width());
  const size_t mark = s.pass.scratch->mark();
  output_.backward(s, trained, d_o, gate(d_projected), d_y, o, gate(projected));
  const Tensor mixed = activated(s), d_mixed = s.scratch(s.type(), 3 * c_.width());
  lightning_attention_backward(s.ctx, part(d_mixed, 0), part(d_mixed, 1), part(d_mixed, 2), d_o, s.kept_tensors[kBorders], part(mixed, 0),
                               part(mixed, 1), part(mixed, 2), decay(), s.batch.sequences, shape());
  const Tensor by_head = mixed;  // in its room
  deal_columns_back(s.ctx, by_head, d_mixed, deal_);
  activate_backward(s.ctx, qkv(d_projected), by_head, qkv(projected), {c_.activation});
  s.pass.scratch->release(mark);
  linear_backward(s, trained, d_x, d_projected, x, in_);
  s.pass.scratch->release(start);
}

}  // namespace loraine
