// Keeps what each product gives, the convolution and the scan; the gate is computed once more in the backward.
#include "loraine/model/mixers/mamba1.h"

#include <algorithm>

#include "loraine/kernels/rows/elementwise.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {
std::unique_ptr<Mixer> Mamba1Config::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<Mamba1>(*this, placement, layer);
}

Mamba1::Mamba1(const Mamba1Config& config, Placement& p, const std::string& layer) : c_(config) {
  const std::string folder = layer + c_.folder;
  p.part(in_, folder + "in_proj", 2 * c_.channels, c_.hidden_size, c_.bias, "2 × mamba_expand × hidden_size, hidden_size");
  p.part(x_, folder + "x_proj", small_columns(), c_.channels, false, "mamba_dt_rank + 2 × mamba_d_state, mamba_expand × hidden_size");
  p.part(dt_, folder + "dt_proj", c_.channels, c_.dt_rank, true, "mamba_expand × hidden_size, mamba_dt_rank");
  p.part(output_.product, folder + "out_proj", c_.hidden_size, c_.channels, c_.bias, "hidden_size, mamba_expand × hidden_size");
  conv_.channels = c_.channels;
  conv_.taps = c_.taps;
  conv_.place(p, folder + "conv1d", c_.conv_bias);
  p.vector(A_log_, folder + "A_log", {c_.channels, c_.state});
  p.vector(D_, folder + "D", c_.channels);
  const char* names[] = {"dt_layernorm", "b_layernorm", "c_layernorm"};
  for (int i = 0; i < 3; ++i) norms_[i] = place_norm(p, c_.inner, folder + names[i], {i == 0 ? c_.dt_rank : c_.state});
}

Parts Mamba1::parts() {
  Parts all{{&in_, &x_, &dt_, &output_.product}, {&A_log_, &D_}};
  for (Norm& norm : norms_) add_parts(all, norm);
  conv_.add_parts(all);
  return all;
}

Tensor Mamba1::as_matrix(const Tensor& t) const { return t.data ? Tensor(t.data, Dtype::F32, {c_.channels, c_.state}) : Tensor(); }

std::vector<Tensor> Mamba1::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  return {arena.take(type, {rows, 2 * c_.channels}), arena.take(type, {rows, c_.channels}),
          arena.take(type, {rows, small_columns()}), arena.take(type, {rows, small_columns()}),
          arena.take(Dtype::F32, {6, rows}),         arena.take(type, {rows, c_.channels}),
          arena.take(type, {rows, c_.channels}),     arena.take(Dtype::F32, {recurrent_border_rows(rows), shape().state_columns()})};
}

size_t Mamba1::scratch_bytes(const PassNeed& need) const {
  const size_t type = size_of(need.type), C = static_cast<size_t>(c_.hidden_size), W = static_cast<size_t>(c_.channels),
               small = static_cast<size_t>(small_columns()),
               adapter = (std::max({C, W, small}) + static_cast<size_t>(need.adapter_columns)) * type;
  if (!need.training) return static_cast<size_t>(need.rows) * (W * type + adapter);
  const size_t narrow = need.type == Dtype::F32 ? 0 : C * type,
               partial = static_cast<size_t>(selective_scan_partial_columns(shape())) * sizeof(float);
  return static_cast<size_t>(need.rows) * ((5 * W + small) * type + std::max({W * type + narrow + adapter, partial, adapter}));
}

size_t Mamba1::thread_bytes(const PassNeed&) const { return selective_scan_bytes(shape()); }

std::vector<Tensor> Mamba1::plan_carried(Arena& arena, int64_t, int64_t sequences, Dtype) const {
  return {arena.take(Dtype::F32, {sequences, conv_.state_columns()}), arena.take(Dtype::F32, {sequences, shape().state_columns()})};
}

// Two products with the state for each token.
double Mamba1::flops(int64_t tokens) const { return 4.0 * static_cast<double>(shape().state_columns()) * static_cast<double>(tokens); }

void Mamba1::step_sizes(const Step& s, const Tensor& dt, const Tensor& low) const {
  const bool adapted = std::ranges::any_of(s.pass.adapters, [&](const AdapterSet* set) { return set->at(dt_.index) != nullptr; });
  if (adapted) multiply_weight(s.ctx, dt, dt_.weight, low);
  else linear_forward(s, dt, low, dt_);
}
void Mamba1::step_sizes_backward(const Step& s, AdapterSet& trained, const Tensor& d_low, const Tensor& d_dt, const Tensor& low) const {
  if (trained.at(dt_.index)) multiply_weight_backward(s.ctx, d_low, dt_.weight, d_dt, false);
  else linear_backward(s, trained, d_low, d_dt, low, dt_);
}

void Mamba1::forward(const Step& s, const Tensor& y, const Tensor& x_in) const {
  const Tensor projected = s.kept(kProjected), mixed = s.kept(kMixed), raw = s.kept(kSmall), normed = s.kept(kNormed), dt = s.kept(kDt),
               scanned = s.kept(kScanned), &statistics = s.kept_tensors[kStatistics];
  const DenseSet* set = dense_set(s);
  linear_forward(s, projected, x_in, in_);
  conv_.forward(s, mixed, x(projected), s.decoding() ? s.carried[kTaps] : Tensor());
  linear_forward(s, raw, mixed, x_);
  for (int i = 0; i < 3; ++i) norm_forward(s, norms_[i], small(normed, i), statistics.row_range(2 * i, 2), small(raw, i));
  step_sizes(s, dt, small(normed, 0));
  const std::vector<int64_t> slots = slots_of(s);
  selective_scan(s.ctx, scanned, s.decoding() ? Tensor() : s.kept_tensors[kBorders], mixed, small(normed, 1), small(normed, 2), dt,
                 as_matrix(vector_of(set, A_log_)), vector_of(set, D_), s.batch.sequences, shape(),
                 s.decoding() ? RecurrentState{s.carried[kState], slots} : RecurrentState{});
  if (y.data) output_.forward(s, y, scanned, gate(projected));
}

void Mamba1::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x_in) const {
  const DenseSet* set = trained.dense.get();
  const size_t start = s.pass.scratch->mark();
  const Tensor projected = s.kept(kProjected), mixed = s.kept(kMixed), raw = s.kept(kSmall), normed = s.kept(kNormed), dt = s.kept(kDt),
               scanned = s.kept(kScanned), &statistics = s.kept_tensors[kStatistics];
  const Tensor d_projected = s.scratch(s.type(), 2 * c_.channels), d_scanned = s.scratch(s.type(), c_.channels),
               d_mixed = s.scratch(s.type(), c_.channels), d_dt = s.scratch(s.type(), c_.channels),
               d_small = s.scratch(s.type(), small_columns());
  const size_t mark = s.pass.scratch->mark();
  output_.backward(s, trained, d_scanned, gate(d_projected), d_y, scanned, gate(projected));
  selective_scan_backward(s.ctx, d_mixed, small(d_small, 1), small(d_small, 2), d_dt, as_matrix(gradient_of(set, A_log_)),
                          gradient_of(set, D_), d_scanned, s.kept_tensors[kBorders], mixed, small(normed, 1), small(normed, 2), dt,
                          as_matrix(vector_of(set, A_log_)), vector_of(set, D_), s.batch.sequences, shape(),
                          s.scratch(Dtype::F32, selective_scan_partial_columns(shape())));
  s.pass.scratch->release(mark);
  step_sizes_backward(s, trained, small(d_small, 0), d_dt, small(normed, 0));
  for (int i = 0; i < 3; ++i)
    norm_backward(s, norms_[i], trained, small(d_small, i), small(d_small, i), small(raw, i), statistics.row_range(2 * i, 2), false);
  linear_backward(s, trained, d_scanned, d_small, mixed, x_);
  add(s.ctx, d_mixed, d_mixed, d_scanned);
  conv_.backward(s, trained, x(d_projected), d_mixed, x(projected));
  linear_backward(s, trained, d_x, d_projected, x_in, in_);
  s.pass.scratch->release(start);
}

}  // namespace loraine
