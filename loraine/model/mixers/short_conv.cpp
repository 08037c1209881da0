// Keeps what in_proj gives; the products and the convolution are computed once more in the backward.
#include "loraine/model/mixers/short_conv.h"

#include "loraine/kernels/activations/sigmoid_gate.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {
namespace {

enum Part { kB, kC, kX };

}  // namespace

std::unique_ptr<Mixer> ShortConvConfig::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<ShortConv>(*this, placement, layer);
}

ShortConv::ShortConv(const ShortConvConfig& config, Placement& p, const std::string& layer) : c_(config) {
  const std::string folder = layer + c_.folder;
  const int64_t C = c_.hidden_size;
  p.part(in_, folder + "in_proj", 3 * C, C, c_.bias, "3 × hidden_size, hidden_size");
  p.part(out_, folder + "out_proj", C, C, c_.bias, "hidden_size, hidden_size");
  out_.gives_output = true;
  conv_.channels = C;
  conv_.taps = c_.taps;
  conv_.silu = false;
  conv_.place(p, folder + "conv", c_.bias);
}

Parts ShortConv::parts() {
  Parts all{{&in_, &out_}, {}};
  conv_.add_parts(all);
  return all;
}

std::vector<Tensor> ShortConv::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  return {arena.take(type, {rows, 3 * c_.hidden_size})};
}

size_t ShortConv::scratch_bytes(const PassNeed& need) const {
  const size_t C = static_cast<size_t>(c_.hidden_size), adapter = C + static_cast<size_t>(need.adapter_columns);
  const size_t narrow = need.type == Dtype::F32 ? 0 : C;
  return static_cast<size_t>(need.rows) * size_of(need.type) * ((need.training ? 7 * C + narrow : 2 * C) + adapter);
}

std::vector<Tensor> ShortConv::plan_carried(Arena& arena, int64_t, int64_t sequences, Dtype) const {
  return {arena.take(Dtype::F32, {sequences, conv_.state_columns()})};
}

void ShortConv::mix(const Step& s, const Tensor& mixed, const Tensor& gated, const Tensor& projected, const Tensor& state) const {
  multiply_rows(s.ctx, gated, part(projected, kX), part(projected, kB));
  conv_.forward(s, mixed, gated, state);
}

void ShortConv::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const Tensor projected = s.kept(0);
  linear_forward(s, projected, x, in_);
  if (!y.data) return;
  const size_t mark = s.pass.scratch->mark();
  const Tensor gated = s.scratch(s.type(), c_.hidden_size), mixed = s.scratch(s.type(), c_.hidden_size);
  mix(s, mixed, gated, projected, s.decoding() ? s.carried[0] : Tensor());
  multiply_rows(s.ctx, mixed, mixed, part(projected, kC));
  linear_forward(s, y, mixed, out_);
  s.pass.scratch->release(mark);
}

void ShortConv::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor projected = s.kept(0), d = s.scratch(s.type(), 3 * c_.hidden_size), gated = s.scratch(s.type(), c_.hidden_size),
               mixed = s.scratch(s.type(), c_.hidden_size), out = s.scratch(s.type(), c_.hidden_size),
               d_out = s.scratch(s.type(), c_.hidden_size);
  mix(s, mixed, gated, projected, {});
  multiply_rows(s.ctx, out, mixed, part(projected, kC));
  linear_backward(s, trained, d_out, as_operand(s, d_y), out, out_);
  multiply_rows(s.ctx, part(d, kC), d_out, mixed);
  multiply_rows(s.ctx, d_out, d_out, part(projected, kC));
  conv_.backward(s, trained, d_out, d_out, gated);
  multiply_rows(s.ctx, part(d, kB), d_out, part(projected, kX));
  multiply_rows(s.ctx, part(d, kX), d_out, part(projected, kB));
  linear_backward(s, trained, d_x, d, x, in_);
  s.pass.scratch->release(mark);
}

}  // namespace loraine
