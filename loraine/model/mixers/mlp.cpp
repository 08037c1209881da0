// Keeps what gate and up give; the activation is computed once more in the backward.
#include "loraine/model/mixers/mlp.h"

#include <algorithm>
#include <cmath>

#include "loraine/kernels/activations/gaussian_topk.h"
#include "loraine/kernels/rows/scaled.h"
#include "loraine/kernels/training/dense_gradients.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {

std::unique_ptr<Mixer> MlpConfig::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<Mlp>(*this, placement, layer);
}

Mlp::Mlp(const MlpConfig& config, Placement& p, const std::string& layer) : c_(config) {
  const std::string folder = layer + c_.folder;
  const int64_t C = c_.hidden_size, F = c_.intermediate_size;
  if (!c_.gate_up.empty()) {
    p.part(gate_up_, folder + c_.gate_up, 2 * F, C, c_.bias, "2 × intermediate_size, hidden_size");
  } else {
    if (c_.gated) p.part(gate_up_, folder + c_.gate, F, C, c_.bias, "intermediate_size, hidden_size");
    p.part(gate_up_, folder + c_.up, F, C, c_.bias, "intermediate_size, hidden_size");
  }
  p.part(down_, folder + c_.down, C, F, c_.bias, "hidden_size, intermediate_size");
  down_.gives_output = true;
  if (c_.learned_activation) {
    p.vector(alpha_p_, folder + "act_fn.alpha_p", 1);
    p.vector(alpha_n_, folder + "act_fn.alpha_n", 1);
  }
}

Parts Mlp::parts() {
  Parts all{{&gate_up_, &down_}, {}};
  if (c_.learned_activation) all.vectors = {&alpha_p_, &alpha_n_};
  return all;
}

std::vector<Tensor> Mlp::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  return {arena.take(type, {rows, inner_columns() + (c_.gate_deviations ? c_.intermediate_size : 0)})};
}

size_t Mlp::scratch_bytes(const PassNeed& need) const {
  const size_t type = size_of(need.type), C = static_cast<size_t>(c_.hidden_size), F = static_cast<size_t>(c_.intermediate_size),
               adapter = (std::max(C, F) + static_cast<size_t>(need.adapter_columns)) * type;
  const size_t narrow = need.type == Dtype::F32 ? 0 : C * type;
  const size_t alphas = c_.learned_activation ? 2 * sizeof(float) : 0;
  return static_cast<size_t>(need.rows) * (need.training ? 2 * F * type + std::max(narrow + adapter, alphas) : F * type + adapter);
}

ActivationShape Mlp::shape(const DenseSet* set) const {
  if (!c_.learned_activation) return {c_.activation};
  return {c_.activation, vector_of(set, alpha_p_).f32()[0], vector_of(set, alpha_n_).f32()[0]};
}

void Mlp::act(const Step& s, const Tensor& f, const Tensor& inner) const {
  if (c_.gated) return gated_activate(s.ctx, f, inner, shape(nullptr));
  for_each_dense(s.batch, s.pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    activate(s.ctx, f.row_range(first, count), inner.row_range(first, count), shape(set));
  });
}

void Mlp::alpha_gradients(const Step& s, const DenseSet* set, const Tensor& d_f, const Tensor& inner) const {
  const Tensor d_p = gradient_of(set, alpha_p_), d_n = gradient_of(set, alpha_n_);
  if (!d_p.data && !d_n.data) return;
  const size_t mark = s.pass.scratch->mark();
  const Tensor rows = s.scratch(Dtype::F32, 2);
  float total[2] = {};
  xielu_slopes(s.ctx, rows, d_f, inner);
  bias_gradient(s.ctx, Tensor(total, Dtype::F32, {2}), rows);
  const auto sigmoid = [](float x) { return 1 / (1 + std::exp(-x)); };
  const ActivationShape now = shape(set);
  if (d_p.data) d_p.f32()[0] += sigmoid(now.alpha_p) * total[0];
  if (d_n.data) d_n.f32()[0] += sigmoid(now.alpha_n) * total[1];
  s.pass.scratch->release(mark);
}

void Mlp::scale_gate(const Step& s, const Tensor& inner) const {
  const Tensor gate = inner.col_range(0, c_.intermediate_size);
  if (c_.gate_scale != 1) scale(s.ctx, gate, gate, c_.gate_scale);
}

void Mlp::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const Tensor inner = this->inner(s);
  linear_forward(s, inner, x, gate_up_);
  scale_gate(s, inner);
  if (c_.gate_deviations) {
    const Tensor gate = inner.col_range(0, c_.intermediate_size);
    copy_rows(whole_gate(s), gate);
    gaussian_topk(s.ctx, gate, gate, *c_.gate_deviations);
  }
  if (!y.data) return;
  const size_t mark = s.pass.scratch->mark();
  const Tensor f = s.scratch(s.type(), c_.intermediate_size);
  act(s, f, inner);
  linear_forward(s, y, f, down_);
  s.pass.scratch->release(mark);
}

void Mlp::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor inner = this->inner(s), f = s.scratch(s.type(), c_.intermediate_size), d_f = s.scratch(s.type(), c_.intermediate_size);
  act(s, f, inner);
  linear_backward(s, trained, d_f, as_operand(s, d_y), f, down_);
  const DenseSet* set = trained.dense.get();
  if (c_.learned_activation) alpha_gradients(s, set, d_f, inner);
  if (c_.gated) gated_activate_backward(s.ctx, inner, d_f, inner, shape(nullptr));
  else activate_backward(s.ctx, inner, d_f, inner, shape(set));
  if (c_.gate_deviations) gaussian_topk_backward(s.ctx, inner.col_range(0, c_.intermediate_size), whole_gate(s), *c_.gate_deviations);
  scale_gate(s, inner);
  linear_backward(s, trained, d_x, inner, x, gate_up_);
  s.pass.scratch->release(mark);
}

}  // namespace loraine
