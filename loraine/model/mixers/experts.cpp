// Rows are sorted by their experts and multiplied in groups. A choice's weight multiplies what goes into the last product (or the first,
// where it weighs the input), so that its gradient needs nothing of what the experts gave. Kept: the choices, and what gate and up give.
#include "loraine/model/mixers/experts.h"

#include <algorithm>

#include "loraine/adapters/expert_lora.h"
#include "loraine/kernels/experts/combine.h"
#include "loraine/kernels/experts/grouped_product.h"
#include "loraine/kernels/rows/deal_columns.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/sigmoid_gate.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {
namespace {

// The matrices of all experts, in room of this thread until the next call.
std::span<const Tensor> matrices(const ExpertStack& stack) {
  thread_local std::vector<Tensor> views;
  views.clear();
  for (const WeightPart& part : stack.parts) views.push_back(part.weight);
  return views;
}

Tensor biases(const Vector& vector, int64_t experts) {
  return Tensor(const_cast<float*>(vector.values.data()), Dtype::F32, {experts, static_cast<int64_t>(vector.values.size()) / experts});
}

}  // namespace

std::unique_ptr<Mixer> ExpertsConfig::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<Experts>(*this, placement, layer);
}

Experts::Experts(const ExpertsConfig& config, Placement& p, const std::string& layer) : c_(config) {
  const std::string folder = layer + c_.folder, module = folder + c_.experts;
  const int64_t E = c_.router.experts, C = c_.hidden_size;
  p.part(router_, folder + c_.router_name, E, C, c_.router_bias, "experts, hidden_size", true);
  router_.weight.bare = !c_.router_is_linear;
  const std::vector<int64_t> correction = c_.correction_is_matrix ? std::vector<int64_t>{1, E} : std::vector<int64_t>{E};
  if (!c_.correction.empty()) p.vector(correction_, folder + c_.correction, correction);
  if (!c_.expert_scale.empty()) p.vector(expert_scale_, folder + c_.expert_scale, E);
  const auto parameter = [&](ExpertWeights& to, const std::string& name, int64_t out, int64_t in, const std::vector<std::string>& pieces) {
    to.module = module;
    to.parameter = name;
    to.experts = E;
    to.out = out;
    to.in = in;
    to.transposed = c_.transposed;
    to.a_gives_output = c_.a_gives_output;
    to.older_differs = !c_.transposed || c_.a_gives_output;
    p.experts(to, pieces, c_.whole_in_files);
  };
  std::vector<std::string> pieces = {c_.up_piece};
  if (c_.gated) pieces.insert(pieces.begin(), c_.gate_piece);
  parameter(gate_up_, c_.gate_up, inner_columns(), C, pieces);
  gate_up_.nested = true;
  gate_up_.interleaved = c_.clamped && c_.clamped->interleaved;
  parameter(down_, c_.down, C, c_.intermediate_size, {c_.down_piece});
  down_.gives_output = true;
  if (c_.clamped && gate_up_.stacks.size() > 1 && !spread()) c_.clamped->interleaved = false;  // files that have them apart
  if (c_.biases) {
    p.vector(gate_up_bias_, gate_up_.name() + "_bias", {E, inner_columns()});
    p.vector(down_bias_, down_.name() + "_bias", {E, C});
  }
  if (c_.shared) shared_ = std::make_unique<Mlp>(*c_.shared, p, layer);
  if (shared_gated()) p.part(shared_gate_, folder + c_.shared_gate, 1, C, false, "1, hidden_size");
}

Parts Experts::parts() {
  Parts all;
  if (shared_) all = shared_->parts();
  all.sites.insert(all.sites.begin(), &router_);
  if (shared_gated()) all.sites.push_back(&shared_gate_);
  if (!c_.correction.empty()) all.vectors.push_back(&correction_);
  if (!c_.expert_scale.empty()) all.vectors.push_back(&expert_scale_);
  if (c_.biases) all.vectors.insert(all.vectors.end(), {&gate_up_bias_, &down_bias_});
  all.experts = {&gate_up_, &down_};
  return all;
}

std::vector<Tensor> Experts::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  const int64_t K = c_.router.per_token, E = c_.router.experts;
  std::vector<Tensor> kept = {arena.take(Dtype::F32, {rows, E}), arena.take(Dtype::I32, {rows, K}), arena.take(Dtype::F32, {rows, K})};
  const ExpertOrder order = take_expert_order(arena, rows, K, E);
  kept.insert(kept.end(), {order.offsets, order.tokens, order.places, arena.take(type, {rows * K, inner_columns()})});
  if (shared_gated()) kept.insert(kept.end(), {arena.take(Dtype::F32, {rows, 1}), arena.take(type, {rows, c_.hidden_size})});
  if (shared_)
    for (const Tensor& t : shared_->plan_kept(arena, rows, type)) kept.push_back(t);
  return kept;
}

size_t Experts::scratch_bytes(const PassNeed& need) const {
  const size_t type = size_of(need.type), C = static_cast<size_t>(c_.hidden_size), F = static_cast<size_t>(c_.intermediate_size),
               T = static_cast<size_t>(need.rows), chosen = T * static_cast<size_t>(c_.router.per_token),
               E = static_cast<size_t>(c_.router.experts), columns = static_cast<size_t>(need.expert_columns) + (spread() ? F : 0);
  const size_t linear = T * (C + static_cast<size_t>(need.adapter_columns)) * type, sum = T * C * sizeof(float),
               shared = shared_ ? sum + shared_->scratch_bytes(need) : 0, gated = shared_gated() ? 2 * sum : 0, slack = 64 * 16;
  if (!need.training) return std::max({chosen * (std::max(C, F + C) + columns) * type, linear, shared + gated + linear}) + slack;
  const size_t experts = chosen * (C + std::max(3 * F, C) + columns) * type + (c_.weighs_input ? sum : 0);
  return T * static_cast<size_t>(c_.router.per_token) * sizeof(float) +
         std::max({experts, T * E * (sizeof(float) + type) + sum + linear, shared + gated + T * type + linear}) + slack;
}

size_t Experts::thread_bytes(const PassNeed& need) const {
  size_t most = 0;
  for (const ExpertWeights* weights : {&gate_up_, &down_})
    for (const ExpertStack& stack : weights->stacks) {
      const Dtype type = stack.parts.front().weight.dtype;
      most = std::max(most, grouped_scratch_bytes(stack.columns, weights->in, !weights->transposed, type, need.type));
      most = std::max(most, grouped_scratch_bytes(weights->in, stack.columns, weights->transposed, type, need.type));
    }
  return most;
}

double Experts::flops(int64_t tokens) const {
  return 2.0 * static_cast<double>(tokens * c_.router.per_token) *
         static_cast<double>(c_.hidden_size * (inner_columns() + c_.intermediate_size));
}

Tensor Experts::rows(const Step& s, const Tensor& t) const { return t.row_range(0, s.batch.rows() * c_.router.per_token); }
Tensor Experts::row_scratch(const Step& s, int64_t columns) const {
  return s.pass.scratch->take(s.type(), {s.batch.rows() * c_.router.per_token, columns});
}
ExpertOrder Experts::order(const Step& s) const { return {s.kept_tensors[kOffsets], rows(s, s.kept_tensors[kTokens]), s.kept(kPlaces)}; }

Step Experts::of_shared(const Step& s) const {
  Step own{s.ctx, s.model, s.batch, s.pass, s.layer, s.kept_tensors.subspan(first_of_shared()), {}};
  return own;
}

RouterVectors Experts::router_vectors(const Step& s) const {
  // A set whose scales are trained runs alone.
  const DenseSet* set = s.pass.adapters.size() == 1 && !s.batch.adapter_rows.empty() ? s.pass.adapters[0]->dense.get() : nullptr;
  return {correction_.view().f32(), vector_of(set, expert_scale_).f32()};
}

// Logits, choices, weights and the order of rows.
void Experts::find_experts(const Step& s, const Tensor& routed) const {
  const Tensor logits = s.kept(kLogits);
  linear_forward(s, logits, routed, router_);
  if (s.pass.balance && s.pass.balance->adding) add_balance(s.ctx, s.pass.balance->sums, logits, c_.router.per_token);
  route(s.ctx, s.kept(kChosen), s.kept(kWeights), logits, c_.router, router_vectors(s));
  order_by_expert(s.ctx, order(s), s.kept(kChosen));
}

// y [T · K, out] = x [T · K, in] with each expert's matrix, and what adapters add
void Experts::multiply(const Step& s, const Tensor& y, const Tensor& x, const ExpertWeights& weights) const {
  const ExpertOrder order = this->order(s);
  for (const ExpertStack& stack : weights.stacks) {
    const size_t mark = s.pass.scratch->mark();
    const Tensor part = stack.step == 1 ? y.col_range(stack.first, stack.columns) : row_scratch(s, stack.columns);
    if (weights.transposed) grouped_nn(s.ctx, part, x, matrices(stack), order);
    else grouped_nt(s.ctx, part, x, matrices(stack), order);
    if (stack.step != 1) spread_columns(s.ctx, y, part, stack.first, stack.step);
    s.pass.scratch->release(mark);
  }
  thread_local std::vector<ExpertAdapterTokens> adapters;
  adapters.clear();
  int64_t rank = 0;
  for (const AdapterRows& range : s.batch.adapter_rows)
    if (const ExpertLora* lora = s.pass.adapters.at(static_cast<size_t>(range.set))->expert(weights.index)) {
      adapters.push_back({&lora->factors(), range.start, range.length});
      rank = std::max(rank, lora->shape().r);
    }
  if (adapters.empty()) return;
  const size_t mark = s.pass.scratch->mark();
  const std::vector<Tensor>& kept = s.pass.activations->expert_columns;
  const Tensor saved = kept.empty() ? row_scratch(s, rank) : rows(s, kept[static_cast<size_t>(weights.index)]);
  expert_adapters(s.ctx, y, saved, x, adapters, order);
  s.pass.scratch->release(mark);
}

void Experts::multiply_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x,
                                const ExpertWeights& weights) const {
  const ExpertOrder order = this->order(s);
  if (d_x.data) {
    float beta = 0;
    for (const ExpertStack& stack : weights.stacks) {
      const size_t mark = s.pass.scratch->mark();
      const Tensor part = stack.step == 1 ? d_y.col_range(stack.first, stack.columns) : row_scratch(s, stack.columns);
      if (stack.step != 1) spread_columns_back(s.ctx, part, d_y, stack.first, stack.step);
      if (weights.transposed) grouped_nt(s.ctx, d_x, part, matrices(stack), order, 1, beta);
      else grouped_nn(s.ctx, d_x, part, matrices(stack), order, 1, beta);
      s.pass.scratch->release(mark);
      beta = 1;
    }
  }
  const ExpertLora* lora = trained.expert(weights.index);
  if (!lora) return;
  const size_t mark = s.pass.scratch->mark();
  Tensor saved = rows(s, s.pass.activations->expert_columns[static_cast<size_t>(weights.index)]);
  saved.shape[1] = lora->shape().r;
  expert_adapter_backward(s.ctx, d_x, lora->gradients(), row_scratch(s, lora->shape().r), d_y, x, saved, lora->factors(), order);
  s.pass.scratch->release(mark);
}

void Experts::act(const Step& s, const Tensor& f, const Tensor& inner) const {
  if (c_.clamped) clamped_swiglu(s.ctx, f, inner, *c_.clamped);
  else if (c_.gated) gated_activate(s.ctx, f, inner, {c_.activation});
  else activate(s.ctx, f, inner, {c_.activation});
}
void Experts::act_backward(const Step& s, const Tensor& inner, const Tensor& d_f) const {
  if (c_.clamped) clamped_swiglu_backward(s.ctx, inner, d_f, inner, *c_.clamped);
  else if (c_.gated) gated_activate_backward(s.ctx, inner, d_f, inner, {c_.activation});
  else activate_backward(s.ctx, inner, d_f, inner, {c_.activation});
}

// y += the shared MLP
void Experts::shared_forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor out = s.scratch(Dtype::F32, c_.hidden_size);
  shared_->forward(of_shared(s), y.data || shared_gated() ? out : Tensor(), x);
  if (shared_gated()) {
    const Tensor gate = s.kept(kSharedGate), given = s.kept(kShared);
    linear_forward(s, gate, x, shared_gate_);
    convert_rows(s.ctx, given, out);
    if (y.data) sigmoid_gate(s.ctx, out, given, gate);
  }
  if (y.data) add(s.ctx, y, y, out);
  s.pass.scratch->release(mark);
}
void Experts::shared_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  Tensor d_out = d_y;
  const Tensor d_own = d_x.data ? s.scratch(Dtype::F32, c_.hidden_size) : Tensor();
  if (shared_gated()) {
    d_out = s.scratch(Dtype::F32, c_.hidden_size);
    const Tensor d_gate = s.scratch(Dtype::F32, 1);
    sigmoid_gate_backward(s.ctx, d_out, d_gate, d_y, s.kept(kShared), s.kept(kSharedGate));
    linear_backward(s, trained, d_own, as_operand(s, d_gate), x, shared_gate_);
    if (d_x.data) add(s.ctx, d_x, d_x, d_own);
  }
  shared_->backward(of_shared(s), trained, d_own, d_out, x);
  if (d_x.data) add(s.ctx, d_x, d_x, d_own);
  s.pass.scratch->release(mark);
}

void Experts::forward(const Step& s, const Tensor& y, const Tensor& x, const Tensor& routed) const {
  find_experts(s, routed);
  const ExpertOrder order = this->order(s);
  const Tensor inner = rows(s, s.kept_tensors[kInner]), weights = s.kept(kWeights);
  const size_t mark = s.pass.scratch->mark();
  const Tensor read = row_scratch(s, c_.hidden_size);
  gather_tokens(s.ctx, read, x, order, c_.weighs_input ? &weights : nullptr);
  multiply(s, inner, read, gate_up_);
  if (c_.biases) add_expert_bias(s.ctx, inner, biases(gate_up_bias_, order.experts()), order);
  s.pass.scratch->release(mark);
  if (y.data) {
    const Tensor f = row_scratch(s, c_.intermediate_size), out = row_scratch(s, c_.hidden_size);
    act(s, f, inner);
    if (!c_.weighs_input) weigh_rows(s.ctx, f, f, order, weights);
    multiply(s, out, f, down_);
    combine_experts(s.ctx, y, out, order, nullptr, false);
    if (c_.biases) add_weighted_biases(s.ctx, y, biases(down_bias_, order.experts()), s.kept(kChosen), weights);
    s.pass.scratch->release(mark);
  }
  if (shared_) shared_forward(s, y, x);
}

// Through the experts into x (overwritten, where it has data) and into the weights.
void Experts::experts_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_weights, const Tensor& d_y,
                               const Tensor& x) const {
  const ExpertOrder order = this->order(s);
  const Tensor inner = rows(s, s.kept_tensors[kInner]), weights = s.kept(kWeights);
  const size_t outer = s.pass.scratch->mark();
  const Tensor d_out = row_scratch(s, c_.hidden_size);
  gather_tokens(s.ctx, d_out, d_y, order);
  const size_t mark = s.pass.scratch->mark();
  const Tensor f = row_scratch(s, c_.intermediate_size), d_f = row_scratch(s, c_.intermediate_size);
  act(s, f, inner);
  Tensor weighed = f;
  if (!c_.weighs_input) {
    weighed = row_scratch(s, c_.intermediate_size);
    weigh_rows(s.ctx, weighed, f, order, weights);
  }
  multiply_backward(s, trained, d_f, d_out, weighed, down_);
  if (!c_.weighs_input) {
    weigh_rows_backward(s.ctx, d_f, d_weights, d_f, f, order, weights);
    if (c_.biases) add_weighted_biases_backward(s.ctx, d_weights, d_y, biases(down_bias_, order.experts()), s.kept(kChosen));
  }
  act_backward(s, inner, d_f);
  s.pass.scratch->release(mark);
  Tensor read;
  if (trained.expert(gate_up_.index)) {
    read = row_scratch(s, c_.hidden_size);
    gather_tokens(s.ctx, read, x, order, c_.weighs_input ? &weights : nullptr);
  }
  const bool read_by_weights = c_.weighs_input && trained.at(router_.index);
  const Tensor d_read = d_x.data || read_by_weights ? d_out : Tensor();
  multiply_backward(s, trained, d_read, inner, read, gate_up_);
  const Tensor to = d_x.data || !read_by_weights ? d_x : s.scratch(Dtype::F32, c_.hidden_size);
  if (to.data && c_.weighs_input) gather_tokens_backward(s.ctx, to, d_weights, d_read, x, order, weights, false);
  else if (to.data) gather_tokens_backward(s.ctx, to, d_read, order, false);
  s.pass.scratch->release(outer);
}

// Through the weights into what the router reads.
void Experts::router_backward(const Step& s, AdapterSet& trained, const Tensor& d_routed, const Tensor& d_weights, const Tensor& routed,
                              bool accumulate) const {
  const size_t mark = s.pass.scratch->mark();
  const RouterVectors vectors = router_vectors(s);
  const Tensor d_logits = s.scratch(Dtype::F32, c_.router.experts), logits = s.kept(kLogits), chosen = s.kept(kChosen),
               d_own = d_routed.data && accumulate ? s.scratch(Dtype::F32, c_.hidden_size) : d_routed;
  if (const Tensor d_scale = gradient_of(trained.dense.get(), expert_scale_); d_scale.data)
    expert_scale_gradient(s.ctx, d_scale, d_weights, chosen, logits, c_.router, vectors);
  route_backward(s.ctx, d_logits, d_weights, chosen, logits, c_.router, vectors);
  if (s.pass.balance && s.pass.balance->factor != 0)
    balance_backward(s.ctx, d_logits, logits, s.pass.balance->sums, s.pass.balance->factor);
  linear_backward(s, trained, d_own, as_operand(s, d_logits), routed, router_);
  if (d_routed.data && accumulate) add(s.ctx, d_routed, d_routed, d_own);
  s.pass.scratch->release(mark);
}

void Experts::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_routed, const Tensor& d_y, const Tensor& x,
                       const Tensor& routed) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor d_weights = s.scratch(Dtype::F32, c_.router.per_token);
  experts_backward(s, trained, d_x, d_weights, d_y, x);
  if (d_routed.data || trained.at(router_.index) || gradient_of(trained.dense.get(), expert_scale_).data)
    router_backward(s, trained, d_routed, d_weights, routed, d_routed.data == d_x.data);
  if (shared_) shared_backward(s, trained, d_x, d_y, x);
  s.pass.scratch->release(mark);
}

}  // namespace loraine
