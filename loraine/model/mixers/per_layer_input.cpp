// The inputs of all layers lie side by side in what the first branch leaves; each layer reads its columns and writes their gradient.
#include "loraine/model/mixers/per_layer_input.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/kernels/activations/activation.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/scaled.h"
#include "loraine/kernels/training/dense_gradients.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {
namespace {

constexpr int64_t kLookedUpRows = 64;  // at once, of all layers' inputs
constexpr float kHalfRoot = 0.70710678f;
constexpr ActivationShape kGelu{Activation::gelu_tanh};

Tensor left_by_first_branch(const Step& s, PerLayerInputs::Lasting which) { return s.pass.activations->layers[0][0].lasting[which]; }

}  // namespace

std::unique_ptr<Mixer> PerLayerInputsConfig::place(Placement& placement, const std::string&) const {
  return std::make_unique<PerLayerInputs>(*this, placement);
}

PerLayerInputs::PerLayerInputs(const PerLayerInputsConfig& config, Placement& p) : c_(config) {
  const ModelNames& names = p.config().names;
  const std::string folder = names.embedding.substr(0, names.embedding.rfind('.') + 1);
  p.part(projection_, folder + "per_layer_model_projection", columns(), c_.hidden_size, false,
         "num_hidden_layers × hidden_size_per_layer_input, hidden_size");
  projection_.gives_output = true;  // it is never computed once more
  // norm(x / √hidden_size) with eps is norm(x) with eps · hidden_size.
  const NormConfig norm{NormKind::rms, "per_layer_projection_norm", c_.eps * static_cast<float>(c_.hidden_size)};
  norm_ = place_norm(p, norm, folder + norm.name, {c_.width});
  p.table(table_, names.embedding + "_per_layer", c_.vocab_size, columns(),
          "vocab_size_per_layer_input, num_hidden_layers × hidden_size_per_layer_input");
}

Parts PerLayerInputs::parts() {
  Parts all{{&projection_}, {}};
  add_parts(all, norm_);
  all.tables = {&table_};
  return all;
}

std::vector<Tensor> PerLayerInputs::plan_lasting(Arena& arena, int64_t rows, Dtype type, bool training) const {
  std::vector<Tensor> lasting = {arena.take(type, {rows, columns()})};
  if (!training) return lasting;
  lasting.push_back(arena.take(type, {rows, columns()}));
  lasting.push_back(arena.take(type, {rows, columns()}));
  lasting.push_back(arena.take(Dtype::F32, {c_.layers, rows}));
  return lasting;
}

size_t PerLayerInputs::scratch_bytes(const PassNeed& need) const {
  const size_t all = static_cast<size_t>(columns()), statistics = static_cast<size_t>(c_.layers * need.rows) * sizeof(float);
  const size_t adapter =
      (std::max(all, static_cast<size_t>(c_.hidden_size)) + static_cast<size_t>(need.adapter_columns)) * size_of(need.type);
  return std::max(static_cast<size_t>(need.rows) * adapter, statistics + kLookedUpRows * all * sizeof(float));
}

Tensor PerLayerInputs::lasting(const Step& s, Lasting which) const {
  const Tensor all = left_by_first_branch(s, which);
  return which == kStatistics ? all : s.rows(all);
}

template <class F>
void PerLayerInputs::for_pieces(const Step& s, const F& f) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor room = s.pass.scratch->take(Dtype::F32, {kLookedUpRows, columns()});
  int32_t rows[kLookedUpRows];
  for (int64_t first = 0; first < s.batch.rows(); first += kLookedUpRows) {
    const int64_t count = std::min(kLookedUpRows, s.batch.rows() - first);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t token = s.batch.tokens[static_cast<size_t>(first + i)];
      rows[i] = token < c_.vocab_size ? token : 0;
    }
    f(first, count, room.row_range(0, count), std::span<const int32_t>(rows, static_cast<size_t>(count)));
  }
  s.pass.scratch->release(mark);
}

void PerLayerInputs::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  if (!y.data) return;  // all of it is still there
  for (int64_t row = 0; row < y.rows(); ++row) std::memset(y.row_range(row, 1).data, 0, static_cast<size_t>(y.cols()) * size_of(y.dtype));
  const size_t mark = s.pass.scratch->mark();
  const bool training = s.pass.activations->training;
  const Tensor inputs = lasting(s, kInputs), product = training ? lasting(s, kProduct) : inputs,
               statistics = training ? lasting(s, kStatistics) : s.pass.scratch->take(Dtype::F32, {c_.layers, s.batch.rows()});
  linear_forward(s, product, x, projection_);
  for (int64_t layer = 0; layer < c_.layers; ++layer)
    norm_forward(s, norm_, inputs.col_range(layer * c_.width, c_.width), statistics.row_range(layer, 1),
                 product.col_range(layer * c_.width, c_.width));
  const float root = std::sqrt(static_cast<float>(c_.width));
  for_pieces(s, [&](int64_t first, int64_t count, const Tensor& looked_up, std::span<const int32_t> rows) {
    for_each_dense(s.batch, s.pass, [&](int64_t start, int64_t length, const DenseSet* set) {
      const int64_t from = std::max(first, start), to = std::min(first + count, start + length);
      if (from < to)
        embedding(s.ctx, looked_up.row_range(from - first, to - from), table_of(set, table_),
                  rows.subspan(static_cast<size_t>(from - first), static_cast<size_t>(to - from)));
    });
    const Tensor here = inputs.row_range(first, count);
    add_scaled(s.ctx, looked_up, here, looked_up, root);
    scale(s.ctx, here, looked_up, kHalfRoot);
  });
  s.pass.scratch->release(mark);
}

void PerLayerInputs::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor&, const Tensor& x) const {
  const Tensor d = lasting(s, kGradient), product = lasting(s, kProduct), statistics = lasting(s, kStatistics);
  scale(s.ctx, d, d, kHalfRoot);
  if (const Tensor d_table = gradient_of(trained.dense.get(), table_); d_table.data)
    for_pieces(s, [&](int64_t first, int64_t count, const Tensor& d_rows, std::span<const int32_t> rows) {
      scale(s.ctx, d_rows, d.row_range(first, count), std::sqrt(static_cast<float>(c_.width)));
      embedding_gradient(s.ctx, d_table, d_rows, rows);
    });
  for (int64_t layer = 0; layer < c_.layers; ++layer) {
    const Tensor here = d.col_range(layer * c_.width, c_.width);
    norm_backward(s, norm_, trained, here, here, product.col_range(layer * c_.width, c_.width), statistics.row_range(layer, 1), false);
  }
  linear_backward(s, trained, d_x, d, x, projection_);
}

std::unique_ptr<Mixer> PerLayerInputConfig::place(Placement& placement, const std::string& path) const {
  return std::make_unique<PerLayerInput>(*this, placement, path);
}

PerLayerInput::PerLayerInput(const PerLayerInputConfig& config, Placement& p, const std::string& layer) : c_(config) {
  p.part(gate_, layer + "per_layer_input_gate", c_.width, c_.hidden_size, false, "hidden_size_per_layer_input, hidden_size");
  p.part(projection_, layer + "per_layer_projection", c_.hidden_size, c_.width, false, "hidden_size, hidden_size_per_layer_input");
  projection_.gives_output = true;
}

std::vector<Tensor> PerLayerInput::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  return {arena.take(type, {rows, 2 * c_.width})};
}

size_t PerLayerInput::scratch_bytes(const PassNeed& need) const {
  const size_t type = size_of(need.type), C = static_cast<size_t>(c_.hidden_size), width = static_cast<size_t>(c_.width),
               adapter = (std::max(C, width) + static_cast<size_t>(need.adapter_columns)) * type;
  const size_t narrow = need.type == Dtype::F32 ? 0 : C * type;
  return static_cast<size_t>(need.rows) * (need.training ? 2 * width * type + narrow + adapter : width * type + adapter);
}

Tensor PerLayerInput::of_this_layer(const Step& s, PerLayerInputs::Lasting which) const {
  return s.rows(left_by_first_branch(s, which)).col_range(c_.layer * c_.width, c_.width);
}

void PerLayerInput::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const Tensor inner = s.kept(0);  // [gate | input]
  linear_forward(s, inner.col_range(0, c_.width), x, gate_);
  copy_rows(inner.col_range(c_.width, c_.width), of_this_layer(s, PerLayerInputs::kInputs));
  if (!y.data) return;
  const size_t mark = s.pass.scratch->mark();
  const Tensor f = s.scratch(s.type(), c_.width);
  gated_activate(s.ctx, f, inner, kGelu);
  linear_forward(s, y, f, projection_);
  s.pass.scratch->release(mark);
}

void PerLayerInput::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor inner = s.kept(0), f = s.scratch(s.type(), c_.width), d_f = s.scratch(s.type(), c_.width);
  gated_activate(s.ctx, f, inner, kGelu);
  linear_backward(s, trained, d_f, as_operand(s, d_y), f, projection_);
  gated_activate_backward(s.ctx, inner, d_f, inner, kGelu);
  copy_rows(of_this_layer(s, PerLayerInputs::kGradient), inner.col_range(c_.width, c_.width));
  linear_backward(s, trained, d_x, inner.col_range(0, c_.width), x, gate_);
  s.pass.scratch->release(mark);
}

}  // namespace loraine
