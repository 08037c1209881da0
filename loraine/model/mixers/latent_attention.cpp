// Keeps q, k and v of all heads; what the norms give is computed once more in the backward.
#include "loraine/model/mixers/latent_attention.h"

#include <algorithm>

#include "loraine/kernels/rows/elementwise.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {

std::unique_ptr<Mixer> LatentAttentionConfig::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<LatentAttention>(*this, placement, layer);
}

LatentAttention::LatentAttention(const LatentAttentionConfig& config, Placement& p, const std::string& layer) : c_(config) {
  const std::string folder = layer + c_.folder;
  const int64_t C = c_.hidden_size;
  const auto norm = [&](const char* name, int64_t size) { return place_norm(p, c_.latent_norm, folder + name, {size}); };
  if (c_.q_rank > 0) {
    p.part(down_, folder + "q_a_proj", c_.q_rank, C, c_.bias, "q_lora_rank, hidden_size");
    q_norm_ = norm("q_a_layernorm", c_.q_rank);
    p.part(q_up_, folder + "q_b_proj", q_size(), c_.q_rank, false,
           "num_attention_heads × (qk_nope_head_dim + qk_rope_head_dim), q_lora_rank");
  } else {
    p.part(down_, folder + "q_proj", q_size(), C, false, "num_attention_heads × (qk_nope_head_dim + qk_rope_head_dim), hidden_size");
  }
  p.part(down_, folder + "kv_a_proj_with_mqa", c_.kv_rank + c_.rope_dim, C, c_.bias, "kv_lora_rank + qk_rope_head_dim, hidden_size");
  kv_norm_ = norm("kv_a_layernorm", c_.kv_rank);
  p.part(kv_up_, folder + "kv_b_proj", expanded_columns(), c_.kv_rank, false,
         "num_attention_heads × (qk_nope_head_dim + v_head_dim), kv_lora_rank");
  p.part(output_, folder + c_.output, C, v_size(), c_.bias, "hidden_size, num_attention_heads × v_head_dim");
  output_.gives_output = true;
  if (c_.rope) {
    query_rope_ = key_rope_ = *c_.rope;
    query_rope_.first = c_.nope_dim;
  }
  for (int64_t h = 0; h < c_.heads; ++h) {
    const int64_t from = h * (c_.nope_dim + c_.value_dim), head = h * c_.key_dim();
    to_k_.push_back({from, head, c_.nope_dim});
    to_v_.push_back({from + c_.nope_dim, h * c_.value_dim, c_.value_dim});
    to_heads_.push_back({0, head + c_.nope_dim, c_.rope_dim});
  }
}

Parts LatentAttention::parts() {
  Parts all{{&down_}, {}};
  if (c_.q_rank > 0) all.sites.push_back(&q_up_);
  all.sites.insert(all.sites.end(), {&kv_up_, &output_});
  add_parts(all, q_norm_);
  add_parts(all, kv_norm_);
  return all;
}

AttentionShape LatentAttention::shape() const {
  return {.heads = c_.heads, .kv_heads = c_.heads, .head_dim = c_.key_dim(), .scale = c_.scale, .value_dim = c_.value_dim};
}

std::vector<Tensor> LatentAttention::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  std::vector<Tensor> kept = {arena.take(type, {rows, down_columns()}), arena.take(Dtype::F32, {2, rows}),
                              arena.take(type, {rows, q_size()}),       arena.take(type, {rows, v_size()}),
                              arena.take(type, {rows, v_size()}),       arena.take(Dtype::F32, {rows, c_.heads})};
  if (c_.q_rank > 0) kept.push_back(arena.take(type, {rows, q_size()}));
  return kept;
}

size_t LatentAttention::scratch_bytes(const PassNeed& need) const {
  const size_t type = size_of(need.type), rows = static_cast<size_t>(need.rows);
  const auto columns = [](int64_t n) { return static_cast<size_t>(n); };
  const size_t rank = columns(std::max(c_.q_rank, c_.kv_rank)), expanded = columns(expanded_columns()),
               adapter = columns(std::max({c_.hidden_size, q_size(), v_size(), expanded_columns(), down_columns()}) + need.adapter_columns);
  if (!need.training) return rows * (rank + expanded + adapter + 1) * type + rows * sizeof(float);
  const size_t heads = 2 * columns(q_size() + v_size()) + columns(down_columns()),
               narrow = columns(need.type == Dtype::F32 ? 0 : c_.hidden_size);
  const size_t partial = columns(std::max(attention_partial_columns(shape()), c_.rope_dim)) * sizeof(float);
  return rows * ((heads + rank + expanded + narrow + adapter) * type + partial);
}

size_t LatentAttention::thread_bytes(const PassNeed& need) const {
  return attention_backward_bytes(shape(), need.type, need.longest, need.shared);
}

std::vector<Tensor> LatentAttention::plan_carried(Arena& arena, int64_t rows, int64_t, Dtype type) const {
  return {arena.take(type, {rows, q_size()}), arena.take(type, {rows, v_size()})};
}

// Two products of which half is seen.
double LatentAttention::flops(int64_t tokens) const {
  return static_cast<double>(q_size() + v_size()) * static_cast<double>(tokens) * static_cast<double>(tokens);
}

// x to q, k and v
void LatentAttention::project(const Step& s, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor down = s.kept(kDown), &statistics = s.kept_tensors[kStatistics];
  linear_forward(s, down, x, down_);
  if (c_.q_rank > 0) {
    const Tensor normed = s.scratch(s.type(), c_.q_rank);
    norm_forward(s, q_norm_, normed, statistics.row_range(0, 1), q_part(down));
    linear_forward(s, s.kept(kQ), normed, q_up_);
    s.pass.scratch->release(mark);
  }
  const Tensor normed = s.scratch(s.type(), c_.kv_rank), expanded = s.scratch(s.type(), expanded_columns());
  norm_forward(s, kv_norm_, normed, statistics.row_range(1, 1), latent(down));
  linear_forward(s, expanded, normed, kv_up_);
  if (c_.rope) {
    rotate(s, query_rope_, q(s), c_.key_dim());
    rotate(s, key_rope_, shared_key(down), c_.rope_dim);
  }
  heat(s, q(s), c_.temperature);
  deal_columns(s.ctx, s.kept(kK), expanded, to_k_);
  deal_columns(s.ctx, s.kept(kK), shared_key(down), to_heads_);
  deal_columns(s.ctx, s.kept(kV), expanded, to_v_);
  s.pass.scratch->release(mark);
}

void LatentAttention::attend(const Step& s) const {
  const Tensor k = s.kept(kK), v = s.kept(kV);
  if (!s.decoding()) return attention(s.ctx, s.kept(kO), s.kept(kLse), q(s), k, v, s.batch.sequences, shape());
  store_keys_and_values(s, k, v);
  attention(s.ctx, s.kept(kO), Tensor(), q(s), s.carried[0], s.carried[1], s.batch.sequences, shape());
}

void LatentAttention::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  project(s, x);
  attend(s);
  if (y.data) linear_forward(s, y, s.kept(kO), output_);
}

void LatentAttention::keys_and_values_backward(const Step& s, AdapterSet& trained, const Tensor& d_down, const Tensor& d_k,
                                               const Tensor& d_v) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor down = s.kept(kDown), statistics = s.kept_tensors[kStatistics].row_range(1, 1);
  const Tensor d_shared = s.scratch(Dtype::F32, c_.rope_dim);  // what all heads give it
  for (size_t h = 0; h < to_heads_.size(); ++h) {
    const Tensor of_head = d_k.col_range(to_heads_[h].to, c_.rope_dim);
    if (h == 0) convert_rows(s.ctx, d_shared, of_head);
    else add(s.ctx, d_shared, d_shared, of_head);
  }
  if (c_.rope) rotate_backward(s, key_rope_, d_shared, c_.rope_dim);
  convert_rows(s.ctx, shared_key(d_down), d_shared);
  s.pass.scratch->release(mark);

  const Tensor d_expanded = s.scratch(s.type(), expanded_columns()), normed = s.scratch(s.type(), c_.kv_rank);
  deal_columns_back(s.ctx, d_expanded, d_k, to_k_);
  deal_columns_back(s.ctx, d_expanded, d_v, to_v_);
  norm_rebuild(s, kv_norm_, normed, latent(down), statistics);
  linear_backward(s, trained, latent(d_down), d_expanded, normed, kv_up_);
  norm_backward(s, kv_norm_, trained, latent(d_down), latent(d_down), latent(down), statistics, false);
  s.pass.scratch->release(mark);
}

// d_q where the product gave q; without a latent that is d_down's part itself.
void LatentAttention::queries_backward(const Step& s, AdapterSet& trained, const Tensor& d_down, const Tensor& d_q) const {
  heat(s, d_q, c_.temperature);
  if (c_.rope) rotate_backward(s, query_rope_, d_q, c_.key_dim());
  if (c_.q_rank == 0) return;
  const size_t mark = s.pass.scratch->mark();
  const Tensor down = s.kept(kDown), statistics = s.kept_tensors[kStatistics].row_range(0, 1), normed = s.scratch(s.type(), c_.q_rank);
  norm_rebuild(s, q_norm_, normed, q_part(down), statistics);
  linear_backward(s, trained, q_part(d_down), d_q, normed, q_up_);
  norm_backward(s, q_norm_, trained, q_part(d_down), q_part(d_down), q_part(down), statistics, false);
  s.pass.scratch->release(mark);
}

void LatentAttention::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor o = s.kept(kO), d_down = s.scratch(s.type(), down_columns()), d_k = s.scratch(s.type(), q_size()),
               d_v = s.scratch(s.type(), v_size()), d_o = s.scratch(s.type(), v_size()),
               d_q = c_.q_rank > 0 ? s.scratch(s.type(), q_size()) : q_part(d_down);
  const size_t inner = s.pass.scratch->mark();
  linear_backward(s, trained, d_o, as_operand(s, d_y), o, output_);
  s.pass.scratch->release(inner);
  attention_backward(s.ctx, d_q, d_k, d_v, d_o, o, s.kept(kLse), q(s), s.kept(kK), s.kept(kV), s.batch.sequences, shape(),
                     s.scratch(Dtype::F32, attention_partial_columns(shape())));
  s.pass.scratch->release(inner);
  queries_backward(s, trained, d_down, d_q);
  keys_and_values_backward(s, trained, d_down, d_k, d_v);
  linear_backward(s, trained, d_x, d_down, x, down_);
  s.pass.scratch->release(mark);
}

}  // namespace loraine
