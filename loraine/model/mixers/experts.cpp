// Rows are sorted by their experts and multiplied in groups. A choice's weight multiplies what goes into the last product (or the first,
// where it weighs the input), so that its gradient needs nothing of what the experts gave. Kept: the choices, and what gate and up give.
#include "loraine/model/mixers/experts.h"

#include <algorithm>

#include "loraine/adapters/expert_lora.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/kernels/activations/sigmoid_gate.h"
#include "loraine/kernels/experts/combine.h"
#include "loraine/kernels/experts/grouped_product.h"
#include "loraine/kernels/rows/deal_columns.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {
namespace {

// Where rows have the weights of several sets, each set's rows of an expert are a group, as if there were so many experts more: tokens
// ascend within an expert, and so do the ranges of a batch.
struct Groups {
  std::vector<AdapterRows> ranges;    // of tokens; `set` is not read
  std::vector<const DenseSet*> sets;  // of each range; nullptr: the base's weights
  std::vector<int32_t> offsets;       // of ExpertOrder, [E · ranges + 1]
  ExpertOrder order;
  bool several() const { return sets.size() > 1; }
};

// In room of this thread until the next call.
const Groups& groups_of(const Step& s, const ExpertOrder& order) {
  thread_local Groups g;
  g.ranges.clear();
  g.sets.clear();
  for_each_dense(s.batch, s.pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    g.ranges.push_back({first, count, 0});
    g.sets.push_back(set);
  });
  g.order = order;
  if (!g.several()) return g;
  g.offsets.assign(1, 0);
  const auto *offsets = static_cast<const int32_t*>(order.offsets.data), *tokens = static_cast<const int32_t*>(order.tokens.data);
  for (int64_t e = 0; e < order.experts(); ++e)
    for (const AdapterRows& range : g.ranges)
      g.offsets.push_back(static_cast<int32_t>(
          std::lower_bound(tokens + offsets[e], tokens + offsets[e + 1], static_cast<int32_t>(range.start + range.length)) - tokens));
  g.order.offsets = Tensor(g.offsets.data(), Dtype::I32, {static_cast<int64_t>(g.offsets.size())});
  return g;
}

// Every `step`th row, from the first one.
Tensor every(int64_t step, Tensor rows) {
  rows.shape[0] = (rows.shape[0] - 1) / step + 1;
  rows.row_stride *= step;
  return rows;
}

// The matrices of all groups, in room of this thread until the next call.
std::span<const Tensor> matrices(const ExpertWeights& weights, const ExpertStack& stack, const Groups& groups) {
  thread_local std::vector<Tensor> views;
  views.clear();
  for (size_t e = 0; e < stack.parts.size(); ++e)
    for (const DenseSet* set : groups.sets) {
      const std::vector<Tensor>* own = set ? &set->experts[static_cast<size_t>(weights.index)].matrices : nullptr;
      if (!own || own->empty()) views.push_back(stack.parts[e].weight);
      else if (weights.transposed) views.push_back((*own)[e].col_range(stack.first, stack.columns));
      else views.push_back(every(stack.step, (*own)[e].row_range(stack.first, stack.step * (stack.columns - 1) + 1)));
    }
  return views;
}

Tensor by_expert(const Tensor& values, int64_t experts) {
  return values.data ? Tensor(values.data, Dtype::F32, {experts, values.numel() / experts}) : Tensor();
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
  correction_.is_buffer = true;
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
  const size_t experts = chosen * (C + std::max(3 * F + (c_.biases ? C : 0), C) + columns) * type + (c_.weighs_input ? sum : 0);
  return T * static_cast<size_t>(c_.router.per_token) * sizeof(float) +
         std::max({experts, T * E * (sizeof(float) + type) + sum + linear, shared + gated + T * type + linear}) + slack;
}

size_t Experts::thread_bytes(const PassNeed& need) const {
  size_t most = 0;
  for (const ExpertWeights* weights : {&gate_up_, &down_})
    for (const ExpertStack& stack : weights->stacks) {
      for (const Dtype type : {stack.parts.front().weight.dtype, Dtype::F32}) {  // F32: a matrix that is trained whole
        most = std::max(most, grouped_scratch_bytes(stack.columns, weights->in, !weights->transposed, type, need.type));
        most = std::max(most, grouped_scratch_bytes(weights->in, stack.columns, weights->transposed, type, need.type));
      }
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
RouterVectors Experts::router_vectors(const DenseSet* set) const {
  return {vector_of(set, correction_).f32(), vector_of(set, expert_scale_).f32()};
}
bool Experts::trains_router(const AdapterSet& trained) const {
  return trained.at(router_.index) || (trained.dense && trained.dense->sites[static_cast<size_t>(router_.index)].trains());
}
ExpertOrder Experts::order(const Step& s) const { return {s.kept_tensors[kOffsets], rows(s, s.kept_tensors[kTokens]), s.kept(kPlaces)}; }

Step Experts::of_shared(const Step& s) const {
  Step own{s.ctx, s.model, s.batch, s.pass, s.layer, s.kept_tensors.subspan(first_of_shared()), {}};
  return own;
}

// Logits, choices, weights and the order of rows.
void Experts::find_experts(const Step& s, const Tensor& routed) const {
  const Tensor logits = s.kept(kLogits);
  linear_forward(s, logits, routed, router_);
  if (s.pass.balance && s.pass.balance->adding) add_balance(s.ctx, s.pass.balance->sums, logits, c_.router.per_token);
  const auto rows_of = [&](size_t kept, int64_t first, int64_t count) { return s.kept(kept).row_range(first, count); };
  if (correction_.values.empty() && expert_scale_.values.empty()) route(s.ctx, s.kept(kChosen), s.kept(kWeights), logits, c_.router, {});
  else
    for_each_dense(s.batch, s.pass, [&](int64_t first, int64_t count, const DenseSet* set) {
      route(s.ctx, rows_of(kChosen, first, count), rows_of(kWeights, first, count), logits.row_range(first, count), c_.router,
            router_vectors(set));
    });
  order_by_expert(s.ctx, order(s), s.kept(kChosen));
  read_chosen_ahead(s);
}

void Experts::read_chosen_ahead(const Step& s) const {
  if (!s.model.reads_experts_ahead) return;
  const auto* offsets = static_cast<const int32_t*>(s.kept_tensors[kOffsets].data);
  for (const ExpertWeights* weights : {&gate_up_, &down_})
    for (const ExpertStack& stack : weights->stacks)
      for (size_t e = 0; e < stack.parts.size(); ++e)
        if (offsets[e + 1] > offsets[e] && stack.parts[e].owned.bytes() == 0)
          read_ahead(stack.parts[e].weight.data, stack.parts[e].weight.bytes());
}

// to [T · K, out] = from [T · K, in] with each expert's matrix, or back: from [T · K, out], to [T · K, in].
void Experts::multiply_matrices(const Step& s, const Tensor& to, const Tensor& from, const ExpertWeights& weights, bool back) const {
  const Groups& groups = groups_of(s, order(s));
  const Tensor& wide = back ? from : to;  // [T · K, out]
  float beta = 0;
  for (const ExpertStack& stack : weights.stacks) {
    const size_t mark = s.pass.scratch->mark();
    const Tensor part = stack.step == 1 ? wide.col_range(stack.first, stack.columns) : row_scratch(s, stack.columns);
    if (back && stack.step != 1) spread_columns_back(s.ctx, part, wide, stack.first, stack.step);
    const Tensor &y = back ? to : part, &x = back ? part : from;
    if (weights.transposed != back) grouped_nn(s.ctx, y, x, matrices(weights, stack, groups), groups.order, 1, beta);
    else grouped_nt(s.ctx, y, x, matrices(weights, stack, groups), groups.order, 1, beta);
    if (!back && stack.step != 1) spread_columns(s.ctx, to, part, stack.first, stack.step);
    s.pass.scratch->release(mark);
    if (back) beta = 1;
  }
}

// y [T · K, out] = x [T · K, in] with each expert's matrix, and what adapters add
void Experts::multiply(const Step& s, const Tensor& y, const Tensor& x, const ExpertWeights& weights) const {
  const ExpertOrder order = this->order(s);
  multiply_matrices(s, y, x, weights, false);
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
  if (d_x.data) multiply_matrices(s, d_x, d_y, weights, true);
  if (trained.dense)
    if (const std::vector<Tensor>& sums = trained.dense->experts[static_cast<size_t>(weights.index)].gradients; !sums.empty())
      weights.transposed ? grouped_tn(s.ctx, sums, x, d_y, order) : grouped_tn(s.ctx, sums, d_y, x, order);
  const ExpertLora* lora = trained.expert(weights.index);
  if (!lora) return;
  const size_t mark = s.pass.scratch->mark();
  Tensor saved = rows(s, s.pass.activations->expert_columns[static_cast<size_t>(weights.index)]);
  saved.shape[1] = lora->shape().r;
  expert_adapter_backward(s.ctx, d_x, lora->gradients(), row_scratch(s, lora->shape().r), d_y, x, saved, lora->factors(), order);
  s.pass.scratch->release(mark);
}

void Experts::add_inner_biases(const Step& s, const Tensor& inner) const {
  const Groups& groups = groups_of(s, order(s));
  const int64_t E = c_.router.experts, columns = inner.cols();
  if (!groups.several()) return add_expert_bias(s.ctx, inner, by_expert(vector_of(groups.sets[0], gate_up_bias_), E), groups.order);
  thread_local std::vector<float> room;  // the biases of all groups
  room.clear();
  for (int64_t e = 0; e < E; ++e)
    for (const DenseSet* set : groups.sets) {
      const float* own = vector_of(set, gate_up_bias_).f32() + e * columns;
      room.insert(room.end(), own, own + columns);
    }
  add_expert_bias(s.ctx, inner, Tensor(room.data(), Dtype::F32, {groups.order.experts(), columns}), groups.order);
}

void Experts::add_output_biases(const Step& s, const Tensor& y) const {
  for_each_dense(s.batch, s.pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    add_weighted_biases(s.ctx, y.row_range(first, count), by_expert(vector_of(set, down_bias_), c_.router.experts),
                        s.kept(kChosen).row_range(first, count), s.kept(kWeights).row_range(first, count));
  });
}

// d_out [T · K, C]: d_y by the rows of experts.
void Experts::output_biases_backward(const Step& s, AdapterSet& trained, const Tensor& d_weights, const Tensor& d_y,
                                     const Tensor& d_out) const {
  const int64_t E = c_.router.experts;
  add_weighted_biases_backward(s.ctx, d_weights, d_y, by_expert(vector_of(trained.dense.get(), down_bias_), E), s.kept(kChosen));
  const Tensor gradient = by_expert(gradient_of(trained.dense.get(), down_bias_), E);
  if (!gradient.data) return;
  const size_t mark = s.pass.scratch->mark();
  const Tensor weighed = row_scratch(s, c_.hidden_size);
  weigh_rows(s.ctx, weighed, d_out, order(s), s.kept(kWeights));
  expert_bias_gradient(s.ctx, gradient, weighed, order(s));
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
  if (c_.biases) add_inner_biases(s, inner);
  s.pass.scratch->release(mark);
  if (y.data) {
    const Tensor f = row_scratch(s, c_.intermediate_size), out = row_scratch(s, c_.hidden_size);
    act(s, f, inner);
    if (!c_.weighs_input) weigh_rows(s.ctx, f, f, order, weights);
    multiply(s, out, f, down_);
    combine_experts(s.ctx, y, out, order, nullptr, false);
    if (c_.biases) add_output_biases(s, y);
    s.pass.scratch->release(mark);
  }
  if (shared_) shared_forward(s, y, x);
}

// Through the experts into x (overwritten, where it has data) and into the weights.
void Experts::experts_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_weights, const Tensor& d_y,
                               const Tensor& x) const {
  const ExpertOrder order = this->order(s);
  const Tensor inner = rows(s, s.kept_tensors[kInner]), weights = s.kept(kWeights);
  read_chosen_ahead(s);
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
    if (c_.biases) output_biases_backward(s, trained, d_weights, d_y, d_out);
  }
  act_backward(s, inner, d_f);
  s.pass.scratch->release(mark);
  if (const Tensor gradient = gradient_of(trained.dense.get(), gate_up_bias_); gradient.data)
    expert_bias_gradient(s.ctx, by_expert(gradient, order.experts()), inner, order);
  Tensor read;
  const bool trains_whole = trained.dense && !trained.dense->experts[static_cast<size_t>(gate_up_.index)].gradients.empty();
  if (trained.expert(gate_up_.index) || trains_whole) {
    read = row_scratch(s, c_.hidden_size);
    gather_tokens(s.ctx, read, x, order, c_.weighs_input ? &weights : nullptr);
  }
  const bool read_by_weights = c_.weighs_input && trains_router(trained);
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
  const RouterVectors vectors = router_vectors(trained.dense.get());
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
  if (d_routed.data || trains_router(trained) || gradient_of(trained.dense.get(), expert_scale_).data)
    router_backward(s, trained, d_routed, d_weights, routed, d_routed.data == d_x.data);
  if (shared_) shared_backward(s, trained, d_x, d_y, x);
  s.pass.scratch->release(mark);
}

}  // namespace loraine
