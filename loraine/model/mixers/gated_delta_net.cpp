// Keeps the projections, what the recurrence gives and its states between chunks; convolution and gates are computed once more in the
// backward.
#include "loraine/model/mixers/gated_delta_net.h"

#include <algorithm>
#include <cmath>

#include "loraine/kernels/recurrent/recurrent_gates.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/training/dense_gradients.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {
namespace {

constexpr float kNormaliseEps = 1e-6f;  // of q and k, whatever the norms have

}  // namespace

std::unique_ptr<Mixer> GatedDeltaNetConfig::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<GatedDeltaNet>(*this, placement, layer);
}

GatedDeltaNet::GatedDeltaNet(const GatedDeltaNetConfig& config, Placement& p, const std::string& layer) : c_(config) {
  const std::string folder = layer + c_.folder;
  if (two_products()) {
    add_convolution(p, folder + "q_conv1d", c_.keys());
    add_convolution(p, folder + "k_conv1d", c_.keys());
    add_convolution(p, folder + "v_conv1d", c_.values());
  } else {
    add_convolution(p, folder + "conv1d", mixed_columns());
  }
  place_projections(p, folder);
  const std::string decay = folder + (low_rank() ? "forget_gate." : "");
  if (low_rank()) p.vector(A_log_, decay + "A_log", {1, 1, c_.value_heads, 1});
  else p.vector(A_log_, decay + "A_log", c_.value_heads);
  p.vector(dt_bias_, decay + "dt_bias", c_.decays());
  output_.shape = {c_.value_dim, false, c_.gate, c_.norm_eps};
  p.vector(output_.norm, folder + c_.norm + ".weight", c_.value_dim);
  p.part(output_.product, folder + c_.output, c_.hidden_size, c_.values(), false,
         "hidden_size, linear_num_value_heads × linear_value_head_dim");
}

void GatedDeltaNet::add_convolution(Placement& p, const std::string& path, int64_t channels) {
  ShortConvolution& convolution = convolutions_.emplace_back();
  convolution.channels = channels;
  convolution.taps = c_.taps;
  convolution.place(p, path, false);
}

void GatedDeltaNet::place_projections(Placement& p, const std::string& folder) {
  const int64_t C = c_.hidden_size, K = c_.keys(), V = c_.values(), heads = c_.value_heads;
  const char *of_heads = "linear_num_value_heads, hidden_size", *of_keys = "linear_num_key_heads × linear_key_head_dim, hidden_size",
             *of_values = "linear_num_value_heads × linear_value_head_dim, hidden_size";
  if (c_.projections == DeltaProjections::parts) {
    p.part(in_, folder + "in_proj_qkv", 2 * K + V, C, false, "2 × keys + values of linear attention, hidden_size");
    p.part(in_, folder + "in_proj_z", V, C, false, of_values);
    p.part(in_, folder + "in_proj_b", heads, C, false, of_heads);
    p.part(in_, folder + "in_proj_a", heads, C, false, of_heads);
    return;
  }
  if (two_products()) {
    p.part(in_, folder + "q_proj", K, C, false, of_keys);
    p.part(in_, folder + "k_proj", K, C, false, of_keys);
    p.part(in_, folder + "v_proj", V, C, false, of_values);
    if (!low_rank()) p.part(in_, folder + "g_proj", V, C, false, of_values);
    p.part(gates_, folder + "b_proj", heads, C, false, of_heads);
    if (!low_rank()) return p.part(gates_, folder + "a_proj", heads, C, false, of_heads);
    const char *into_rank = "head_dim of linear attention, hidden_size", *of_rank = "num_heads × head_dim, head_dim of linear attention";
    p.part(gates_, folder + "forget_gate.f_a_proj", c_.rank, C, false, into_rank);
    p.part(gates_, folder + "g_a_proj", c_.rank, C, false, into_rank);
    p.part(decay_up_, folder + "forget_gate.f_b_proj", c_.decays(), c_.rank, false, of_rank);
    p.part(gate_up_, folder + "g_b_proj", V, c_.rank, false, of_rank);
    return;
  }
  p.part(in_, folder + "in_proj_qkvz", 2 * K + 2 * V, C, false, "2 × keys + 2 × values of linear attention, hidden_size");
  p.part(in_, folder + "in_proj_ba", 2 * heads, C, false, "2 × linear_num_value_heads, hidden_size");
  const int64_t served = heads / c_.key_heads, D = c_.key_dim, W = served * c_.value_dim, each = 2 * D + 2 * W;
  for (int64_t h = 0; h < c_.key_heads; ++h) {
    const int64_t from = h * each, ba = 2 * (K + V) + 2 * h * served, to_b = 2 * K + 2 * V;
    deal_.insert(deal_.end(), {{from, h * D, D},
                               {from + D, K + h * D, D},
                               {from + 2 * D, 2 * K + h * W, W},
                               {from + 2 * D + W, 2 * K + V + h * W, W},
                               {ba, to_b + h * served, served},
                               {ba + served, to_b + heads + h * served, served}});
  }
}

Parts GatedDeltaNet::parts() {
  Parts all{{&in_, &output_.product}, {&A_log_, &dt_bias_, &output_.norm}};
  if (two_products()) all.sites.push_back(&gates_);
  if (low_rank()) all.sites.insert(all.sites.end(), {&decay_up_, &gate_up_});
  for (ShortConvolution& convolution : convolutions_) convolution.add_parts(all);
  return all;
}

GatedDeltaShape GatedDeltaNet::shape() const {
  return {c_.key_heads,  c_.value_heads,  c_.key_dim, c_.value_dim, 1.0f / std::sqrt(static_cast<float>(c_.key_dim)),
          kNormaliseEps, c_.channel_decay};
}

std::vector<Tensor> GatedDeltaNet::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  return {arena.take(type, {rows, columns()}), arena.take(type, {rows, c_.values()}),
          arena.take(Dtype::F32, {recurrent_border_rows(rows), shape().state_columns()})};
}

size_t GatedDeltaNet::scratch_bytes(const PassNeed& need) const {
  const size_t type = size_of(need.type), C = static_cast<size_t>(c_.hidden_size), V = static_cast<size_t>(c_.values()),
               all = static_cast<size_t>(columns()), qkv = static_cast<size_t>(mixed_columns()),
               gates = sizeof(float) * static_cast<size_t>(c_.value_heads + c_.decays()),
               adapter = (std::max(C, V) + static_cast<size_t>(need.adapter_columns)) * type, dealt = deal_.empty() ? 0 : all * type,
               second = two_products() ? C * sizeof(float) : 0;
  if (!need.training) return static_cast<size_t>(need.rows) * std::max({dealt + adapter, qkv * type + gates, V * type + adapter});
  const size_t narrow = need.type == Dtype::F32 ? 0 : C * type, ones = 2 * sizeof(float) * std::max(V, qkv);
  return static_cast<size_t>(need.rows) *
             (all * type + V * type + std::max({3 * V * type + narrow + adapter, 2 * qkv * type + 2 * gates, dealt + second + adapter})) +
         ones;
}

size_t GatedDeltaNet::thread_bytes(const PassNeed&) const { return gated_delta_bytes(shape()); }

std::vector<Tensor> GatedDeltaNet::plan_carried(Arena& arena, int64_t, int64_t sequences, Dtype) const {
  std::vector<Tensor> carried = {arena.take(Dtype::F32, {sequences, shape().state_columns()})};
  for (const ShortConvolution& convolution : convolutions_)
    carried.push_back(arena.take(Dtype::F32, {sequences, convolution.state_columns()}));
  return carried;
}

// Three products with the state for each token.
double GatedDeltaNet::flops(int64_t tokens) const {
  return 6.0 * static_cast<double>(shape().state_columns()) * static_cast<double>(tokens);
}

void GatedDeltaNet::project(const Step& s, const Tensor& projected, const Tensor& x) const {
  if (two_products()) {
    linear_forward(s, second(projected), x, gates_);
    linear_forward(s, first(projected), x, in_);
    if (!low_rank()) return;
    linear_forward(s, a(projected), f(projected), decay_up_);
    return linear_forward(s, z(projected), g(projected), gate_up_);
  }
  if (deal_.empty()) return linear_forward(s, projected, x, in_);
  const size_t mark = s.pass.scratch->mark();
  const Tensor raw = s.scratch(s.type(), columns());
  linear_forward(s, raw, x, in_);
  deal_columns(s.ctx, projected, raw, deal_);
  s.pass.scratch->release(mark);
}

void GatedDeltaNet::project_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_projected,
                                     const Tensor& x) const {
  if (two_products()) {
    if (low_rank()) {
      linear_backward(s, trained, f(d_projected), a(d_projected), f(s.kept(kProjected)), decay_up_);
      linear_backward(s, trained, g(d_projected), z(d_projected), g(s.kept(kProjected)), gate_up_);
    }
    const Tensor d_second = d_x.data ? s.scratch(Dtype::F32, c_.hidden_size) : Tensor();
    linear_backward(s, trained, d_x, first(d_projected), x, in_);
    linear_backward(s, trained, d_second, second(d_projected), x, gates_);
    if (d_x.data) add(s.ctx, d_x, d_x, d_second);
    return;
  }
  Tensor d_product = d_projected;
  if (!deal_.empty()) {
    d_product = s.scratch(s.type(), columns());
    deal_columns_back(s.ctx, d_product, d_projected, deal_);
  }
  linear_backward(s, trained, d_x, d_product, x, in_);
}

void GatedDeltaNet::convolve(const Step& s, const Tensor& mixed, const Tensor& projected, bool decoding) const {
  int64_t first = 0;
  for (size_t i = 0; i < convolutions_.size(); ++i) {
    const ShortConvolution& one = convolutions_[i];
    one.forward(s, mixed.col_range(first, one.channels), projected.col_range(first, one.channels), decoding ? s.carried[1 + i] : Tensor());
    first += one.channels;
  }
}

GatedDeltaNet::Gates GatedDeltaNet::gates(const Step& s, const DenseSet* set, const Tensor& projected) const {
  const Gates out = gates_room(s);
  log_decay(s.ctx, out.g, a(projected), vector_of(set, A_log_), vector_of(set, dt_bias_));
  write_strength(s.ctx, out.beta, b(projected), c_.largest_beta);
  return out;
}

void GatedDeltaNet::gates_backward(const Step& s, const AdapterSet& trained, const Tensor& d_projected, const Gates& d, const Gates& gates,
                                   const Tensor& projected) const {
  const DenseSet* set = trained.dense.get();
  log_decay_backward(s.ctx, a(d_projected), d.g, a(projected), vector_of(set, A_log_), vector_of(set, dt_bias_));
  write_strength_backward(s.ctx, b(d_projected), d.beta, gates.beta, c_.largest_beta);
  if (const Tensor d_bias = gradient_of(set, dt_bias_); d_bias.data) bias_gradient(s.ctx, d_bias, a(d_projected));
  if (const Tensor d_A_log = gradient_of(set, A_log_); d_A_log.data) add_decay_rates(s, d_A_log, d.g, gates.g);
}

// ∂g / ∂A_log = g, and all channels of a head have one A_log.
void GatedDeltaNet::add_decay_rates(const Step& s, const Tensor& d_A_log, const Tensor& d_g, const Tensor& g) const {
  if (!c_.channel_decay) return add_column_dots(s, d_A_log, d_g, g);
  const size_t mark = s.pass.scratch->mark();
  const Tensor by_channel = s.pass.scratch->take(Dtype::F32, {1, c_.decays()});
  std::fill_n(by_channel.f32(), c_.decays(), 0.0f);
  add_column_dots(s, by_channel, d_g, g);
  for (int64_t channel = 0; channel < c_.decays(); ++channel) d_A_log.f32()[channel / c_.key_dim] += by_channel.f32()[channel];
  s.pass.scratch->release(mark);
}

void GatedDeltaNet::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const Tensor projected = s.kept(kProjected), o = s.kept(kO);
  const DenseSet* set = dense_set(s);
  project(s, projected, x);
  const size_t mark = s.pass.scratch->mark();
  const Tensor mixed = s.scratch(s.type(), mixed_columns());
  convolve(s, mixed, projected, s.decoding());
  const Gates with = gates(s, set, projected);
  const std::vector<int64_t> slots = slots_of(s);
  gated_delta(s.ctx, o, s.decoding() ? Tensor() : s.kept_tensors[kBorders], q(mixed), k(mixed), v(mixed), with.g, with.beta,
              s.batch.sequences, shape(), s.decoding() ? RecurrentState{s.carried[0], slots} : RecurrentState{});
  s.pass.scratch->release(mark);
  if (y.data) output_.forward(s, y, o, z(projected));
}

void GatedDeltaNet::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const DenseSet* set = trained.dense.get();
  const size_t start = s.pass.scratch->mark();
  const Tensor projected = s.kept(kProjected), o = s.kept(kO), d_projected = s.scratch(s.type(), columns()),
               d_o = s.scratch(s.type(), c_.values());
  const size_t mark = s.pass.scratch->mark();
  output_.backward(s, trained, d_o, z(d_projected), d_y, o, z(projected));
  const Tensor mixed = s.scratch(s.type(), mixed_columns()), d_mixed = s.scratch(s.type(), mixed_columns());
  convolve(s, mixed, projected, false);
  const Gates with = gates(s, set, projected), d = gates_room(s);
  gated_delta_backward(s.ctx, q(d_mixed), k(d_mixed), v(d_mixed), d.g, d.beta, d_o, s.kept_tensors[kBorders], q(mixed), k(mixed), v(mixed),
                       with.g, with.beta, s.batch.sequences, shape());
  gates_backward(s, trained, d_projected, d, with, projected);
  int64_t first = 0;
  for (const ShortConvolution& one : convolutions_) {
    const auto part = [&](const Tensor& all) { return all.col_range(first, one.channels); };
    one.backward(s, trained, part(d_projected), part(d_mixed), part(projected));
    first += one.channels;
  }
  s.pass.scratch->release(mark);
  project_backward(s, trained, d_x, d_projected, x);
  s.pass.scratch->release(start);
}

}  // namespace loraine
