// Keeps the projections, what the scan gives and its states between chunks; the convolution is computed once more in the backward.
#include "loraine/model/mixers/mamba2.h"

#include <algorithm>

#include "loraine/kernels/rows/columns.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {

std::unique_ptr<Mixer> Mamba2Config::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<Mamba2>(*this, placement, layer);
}

Mamba2::Mamba2(const Mamba2Config& config, Placement& p, const std::string& layer) : c_(config) {
  const std::string folder = layer + c_.folder;
  conv_.channels = c_.width() + 2 * c_.keys();
  conv_.taps = c_.taps;
  p.part(in_, folder + "in_proj", columns(), c_.hidden_size, c_.in_bias,
         "2 × heads × head_dim + 2 × groups × state + heads of Mamba, hidden_size");
  conv_.place(p, folder + "conv1d", c_.conv_bias);
  p.vector(A_log_, folder + "A_log", c_.heads);
  p.vector(D_, folder + "D", c_.heads);
  p.vector(dt_bias_, folder + "dt_bias", c_.heads);
  output_.shape = {c_.norm ? c_.width() / c_.groups : 0, !c_.norm_before_gate, GateActivation::silu, c_.norm_eps};
  if (c_.norm) p.vector(output_.norm, folder + "norm.weight", c_.width());
  p.part(output_.product, folder + "out_proj", c_.hidden_size, c_.width(), c_.out_bias, "hidden_size, heads × head_dim of Mamba");
  if (std::ranges::all_of(c_.multipliers, [](float m) { return m == 1; })) return;
  const int64_t counts[] = {c_.width(), c_.width(), c_.keys(), c_.keys(), c_.heads};
  for (size_t i = 0; i < c_.multipliers.size(); ++i) factors_.insert(factors_.end(), static_cast<size_t>(counts[i]), c_.multipliers[i]);
}

Parts Mamba2::parts() {
  Parts all{{&in_, &output_.product}, {&A_log_, &D_, &dt_bias_}};
  if (c_.norm) all.vectors.push_back(&output_.norm);
  conv_.add_parts(all);
  return all;
}

Mamba2Weights Mamba2::weights(const DenseSet* set) const { return {vector_of(set, A_log_), vector_of(set, D_), vector_of(set, dt_bias_)}; }

std::vector<Tensor> Mamba2::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  return {arena.take(type, {rows, columns()}), arena.take(type, {rows, c_.width()}),
          arena.take(Dtype::F32, {recurrent_border_rows(rows), shape().state_columns()})};
}

size_t Mamba2::scratch_bytes(const PassNeed& need) const {
  const size_t type = size_of(need.type), C = static_cast<size_t>(c_.hidden_size), W = static_cast<size_t>(c_.width()),
               all = static_cast<size_t>(columns()), mixed = static_cast<size_t>(conv_.channels),
               adapter = (std::max(C, W) + static_cast<size_t>(need.adapter_columns)) * type;
  if (!need.training) return static_cast<size_t>(need.rows) * std::max({adapter, mixed * type, W * type + adapter});
  const size_t narrow = need.type == Dtype::F32 ? 0 : C * type,
               partial = static_cast<size_t>(mamba2_partial_columns(shape())) * sizeof(float);
  const size_t small = sizeof(float) * static_cast<size_t>(2 * c_.width() + 3 * c_.heads);  // gradients of vectors, and ones
  return static_cast<size_t>(need.rows) *
             (all * type + W * type + std::max({3 * W * type + narrow + adapter, 2 * mixed * type + partial, adapter})) +
         small;
}

size_t Mamba2::thread_bytes(const PassNeed&) const { return mamba2_bytes(shape()); }

std::vector<Tensor> Mamba2::plan_carried(Arena& arena, int64_t, int64_t sequences, Dtype) const {
  return {arena.take(Dtype::F32, {sequences, conv_.state_columns()}), arena.take(Dtype::F32, {sequences, shape().state_columns()})};
}

// Two products with the state for each token.
double Mamba2::flops(int64_t tokens) const { return 4.0 * static_cast<double>(shape().state_columns()) * static_cast<double>(tokens); }

void Mamba2::forward(const Step& s, const Tensor& y, const Tensor& x_in) const {
  const Tensor projected = s.kept(kProjected), scanned = s.kept(kScanned);
  const DenseSet* set = dense_set(s);
  linear_forward(s, projected, x_in, in_);
  if (!factors_.empty()) scale_columns(s.ctx, projected, projected, factors_.data());
  const size_t mark = s.pass.scratch->mark();
  const Tensor mixed = s.scratch(s.type(), conv_.channels);
  conv_.forward(s, mixed, xbc(projected), s.decoding() ? s.carried[kTaps] : Tensor());
  const std::vector<int64_t> slots = slots_of(s);
  mamba2(s.ctx, scanned, s.decoding() ? Tensor() : s.kept_tensors[kBorders], x(mixed), B(mixed), C(mixed), dt(projected), weights(set),
         s.batch.sequences, shape(), s.decoding() ? RecurrentState{s.carried[kState], slots} : RecurrentState{});
  s.pass.scratch->release(mark);
  if (y.data) output_.forward(s, y, scanned, gate(projected));
}

void Mamba2::scan_backward(const Step& s, const AdapterSet& trained, const Tensor& d_projected, const Tensor& d_scanned,
                           const Tensor& projected) const {
  const DenseSet* set = trained.dense.get();
  const Tensor mixed = s.scratch(s.type(), conv_.channels), d_mixed = s.scratch(s.type(), conv_.channels);
  conv_.forward(s, mixed, xbc(projected), {});
  const Vector* vectors[] = {&A_log_, &D_, &dt_bias_};
  Tensor gradients[3], here[3];
  for (size_t i = 0; i < 3; ++i)
    if (gradients[i] = gradient_of(set, *vectors[i]); gradients[i].data) here[i] = s.pass.scratch->take(Dtype::F32, {c_.heads});
  mamba2_backward(s.ctx, x(d_mixed), B(d_mixed), C(d_mixed), dt(d_projected), {here[0], here[1], here[2]}, d_scanned,
                  s.kept_tensors[kBorders], x(mixed), B(mixed), C(mixed), dt(projected), weights(set), s.batch.sequences, shape(),
                  s.scratch(Dtype::F32, mamba2_partial_columns(shape())));
  for (size_t i = 0; i < 3; ++i)
    if (here[i].data) add(s.ctx, gradients[i], gradients[i], here[i]);
  conv_.backward(s, trained, xbc(d_projected), d_mixed, xbc(projected));
}

void Mamba2::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x_in) const {
  const size_t start = s.pass.scratch->mark();
  const Tensor projected = s.kept(kProjected), scanned = s.kept(kScanned), d_projected = s.scratch(s.type(), columns()),
               d_scanned = s.scratch(s.type(), c_.width());
  const size_t mark = s.pass.scratch->mark();
  output_.backward(s, trained, d_scanned, gate(d_projected), d_y, scanned, gate(projected));
  scan_backward(s, trained, d_projected, d_scanned, projected);
  s.pass.scratch->release(mark);
  if (!factors_.empty()) scale_columns(s.ctx, d_projected, d_projected, factors_.data());
  linear_backward(s, trained, d_x, d_projected, x_in, in_);
  s.pass.scratch->release(start);
}

}  // namespace loraine
