// Views of carried states; the convolution and the output with the weights of the set that runs.
#include "loraine/model/mixers/recurrent.h"

#include <algorithm>

#include "loraine/kernels/rows/columns.h"
#include "loraine/kernels/sequence/causal_conv.h"
#include "loraine/model/placement.h"

namespace loraine {

std::vector<int64_t> slots_of(const Step& s) {
  std::vector<int64_t> slots;
  slots.reserve(s.batch.sequences.size());
  for (const Sequence& sequence : s.batch.sequences) slots.push_back(sequence.slot);
  return slots;
}

const DenseSet* dense_set(const Step& s) {
  return s.pass.adapters.size() == 1 && !s.batch.adapter_rows.empty() ? s.pass.adapters[0]->dense.get() : nullptr;
}

void add_column_dots(const Step& s, const Tensor& d, const Tensor& a, const Tensor& b) {
  const size_t mark = s.pass.scratch->mark();
  const Tensor ones = s.pass.scratch->take(Dtype::F32, {1, a.cols()});
  std::fill_n(ones.f32(), a.cols(), 1.0f);
  column_dots(s.ctx, d.f32(), a, b, ones.f32());
  s.pass.scratch->release(mark);
}

namespace {

// The values of [channels, 1, taps] as rows of taps.
Tensor rows_of_taps(const Tensor& t, int64_t channels, int64_t taps) {
  return t.data ? Tensor(t.data, Dtype::F32, {channels, taps}) : Tensor();
}

const float* values(const Tensor& t) { return t.data ? t.f32() : nullptr; }

}  // namespace

void ShortConvolution::place(Placement& p, const std::string& path, bool has_bias) {
  p.vector(weight, path + ".weight", {channels, 1, taps});
  if (has_bias) p.vector(bias, path + ".bias", channels);
}

void ShortConvolution::add_parts(Parts& parts) {
  parts.vectors.push_back(&weight);
  if (!bias.name.empty()) parts.vectors.push_back(&bias);
}

void ShortConvolution::forward(const Step& s, const Tensor& y, const Tensor& x, const Tensor& state) const {
  const DenseSet* set = dense_set(s);
  const std::vector<int64_t> slots = slots_of(s);
  causal_conv(s.ctx, y, x, rows_of_taps(vector_of(set, weight), channels, taps), values(vector_of(set, bias)), s.batch.sequences, state,
              slots, silu);
}

void ShortConvolution::backward(const Step& s, const AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const DenseSet* set = trained.dense.get();
  const Tensor w = rows_of_taps(vector_of(set, weight), channels, taps), d_w = rows_of_taps(gradient_of(set, weight), channels, taps);
  const float* b = values(vector_of(set, bias));
  const Tensor d_b = gradient_of(set, bias);
  if (d_w.data) causal_conv_weight_gradient(s.ctx, d_w, d_b.data ? d_b.f32() : nullptr, d_y, x, w, b, s.batch.sequences, silu);
  causal_conv_backward(s.ctx, d_x, d_y, x, w, b, s.batch.sequences, silu);
}

void GatedOutput::forward(const Step& s, const Tensor& y, const Tensor& x, const Tensor& gate) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor out = s.scratch(s.type(), x.cols());
  gated_norm(s.ctx, out, x, gate, vector_of(dense_set(s), norm), shape);
  linear_forward(s, y, out, product);
  s.pass.scratch->release(mark);
}

namespace {

// y = n · weight, where n is what the op gives with a weight of ones.
void gated_norm_weight_gradient(const Step& s, const Tensor& d_weight, const Tensor& d_y, const Tensor& x, const Tensor& gate,
                                const GatedNormShape& shape) {
  const size_t mark = s.pass.scratch->mark();
  const Tensor ones = s.pass.scratch->take(Dtype::F32, {1, shape.width}), n = s.scratch(s.type(), x.cols());
  std::fill_n(ones.f32(), shape.width, 1.0f);
  gated_norm(s.ctx, n, x, gate, Tensor(ones.data, Dtype::F32, {shape.width}), shape);
  for (int64_t first = 0; first < x.cols(); first += d_weight.numel())
    add_column_dots(s, d_weight, d_y.col_range(first, d_weight.numel()), n.col_range(first, d_weight.numel()));
  s.pass.scratch->release(mark);
}

}  // namespace

void GatedOutput::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x,
                           const Tensor& gate) const {
  const DenseSet* set = trained.dense.get();
  const size_t mark = s.pass.scratch->mark();
  const Tensor weight = vector_of(set, norm), out = s.scratch(s.type(), x.cols());
  gated_norm(s.ctx, out, x, gate, weight, shape);
  linear_backward(s, trained, d_x, as_operand(s, d_y), out, product);
  if (const Tensor d_weight = gradient_of(set, norm); d_weight.data) gated_norm_weight_gradient(s, d_weight, d_x, x, gate, shape);
  gated_norm_backward(s.ctx, d_x, d_gate, d_x, x, gate, weight, shape);
  s.pass.scratch->release(mark);
}

}  // namespace loraine
