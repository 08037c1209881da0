// The steps of attention, forward and backward of each beside each other.
#include "loraine/model/mixers/attention.h"

#include <algorithm>

#include "loraine/kernels/activations/sigmoid_gate.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/row_factors.h"
#include "loraine/model/mixers/temperature.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {

std::unique_ptr<Mixer> AttentionConfig::place(Placement& placement, const std::string& layer) const {
  return std::make_unique<Attention>(*this, placement, layer);
}

Attention::Attention(const AttentionConfig& config, Placement& p, const std::string& layer) : c_(config) {
  const std::string folder = layer + c_.folder;
  const int64_t C = c_.hidden_size, D = c_.head_dim;
  const char* heads = "num_attention_heads × head_dim, hidden_size";
  const char* kv_heads = "num_key_value_heads × head_dim, hidden_size";
  if (!c_.qkv.empty()) {
    p.part(qkv_, folder + c_.qkv, c_.q_size() + 2 * c_.kv_size(), C, c_.q_bias,
           "num_attention_heads + 2 num_key_value_heads, times head_dim, hidden_size");
  } else {
    p.part(qkv_, folder + c_.q, (c_.gate_in_q ? 2 : 1) * c_.q_size(), C, c_.q_bias, heads);
    if (!c_.reads_kv()) p.part(qkv_, folder + c_.k, c_.kv_size(), C, c_.k_bias, kv_heads);
    if (!c_.reads_kv() && !c_.v.empty()) p.part(qkv_, folder + c_.v, c_.kv_size(), C, c_.v_bias, kv_heads);
    if (!c_.gate.empty()) p.part(qkv_, folder + c_.gate, c_.q_size(), C, false, heads);
  }
  p.part(output_, folder + c_.output, C, c_.q_size(), c_.output_bias, "hidden_size, num_attention_heads × head_dim");
  output_.gives_output = true;
  add_slices(p, folder, c_.q_norm, 0, c_.heads);
  if (!c_.reads_kv()) {
    add_slices(p, folder, c_.k_norm, c_.q_size(), c_.kv_heads);
    add_slices(p, folder, c_.v_norm, c_.q_size() + c_.kv_size(), c_.kv_heads);
  }
  if (c_.sinks) p.vector(sinks_, folder + c_.sinks_name, c_.heads);
  if (c_.qkv_by_head) {
    for (int64_t h = 0; h < c_.heads; ++h)
      for (int64_t part = 0; part < 3; ++part) deal_.push_back({(3 * h + part) * D, part * c_.q_size() + h * D, D});
  } else if (c_.gate_in_q) {
    for (int64_t h = 0; h < c_.heads; ++h) {
      deal_.push_back({2 * h * D, h * D, D});
      deal_.push_back({(2 * h + 1) * D, c_.q_size() + 2 * c_.kv_size() + h * D, D});
    }
    deal_.push_back({2 * c_.q_size(), c_.q_size(), 2 * c_.kv_size()});
  }
}

void Attention::add_slices(Placement& p, const std::string& folder, const NormConfig& norm, int64_t first, int64_t heads) {
  if (norm.kind == NormKind::none) return;
  const int64_t D = c_.head_dim;
  const auto place = [&](const std::string& name, const std::vector<int64_t>& shape) {
    norms_.push_back(place_norm(p, norm, folder + name, shape));
  };
  if (c_.head_norms == HeadNorms::whole) {
    slices_.push_back({first, heads * D, norms_.size(), 0});
    return place(norm.name, {heads * D});
  }
  for (int64_t h = 0; h < heads; ++h) {
    const bool rows = c_.head_norms == HeadNorms::rows;
    if (c_.head_norms == HeadNorms::tensors) place(norm.name + "." + std::to_string(h), {D});
    else if (h == 0) place(norm.name, rows ? std::vector<int64_t>{heads, D} : std::vector<int64_t>{D});
    slices_.push_back({first + h * D, D, norms_.size() - 1, rows ? h : 0});
  }
}

Parts Attention::parts() {
  Parts all{{&qkv_, &output_}, {}};
  for (Norm& norm : norms_) add_parts(all, norm);
  if (c_.sinks) all.vectors.push_back(&sinks_);
  return all;
}

AttentionShape Attention::shape(const Step& s) const {
  AttentionShape out = shape();
  // A set whose sinks are trained runs alone.
  const DenseSet* set = s.pass.adapters.size() == 1 && !s.batch.adapter_rows.empty() ? s.pass.adapters[0]->dense.get() : nullptr;
  if (c_.sinks) out.sinks = vector_of(set, sinks_).f32();
  return out;
}

AttentionShape Attention::shape() const {
  return {.heads = c_.heads,
          .kv_heads = c_.kv_heads,
          .head_dim = c_.head_dim,
          .window = c_.window,
          .scale = c_.scale,
          .softcap = c_.softcap,
          .sinks = c_.sinks ? sinks_.values.data() : nullptr,
          .chunk = c_.chunk};
}

std::vector<Tensor> Attention::plan_kept(Arena& arena, int64_t rows, Dtype type) const {
  std::vector<Tensor> kept = {arena.take(type, {rows, qkv_columns()}), arena.take(type, {rows, c_.q_size()}),
                              arena.take(Dtype::F32, {rows, c_.heads})};
  if (!normed() && c_.clip == 0) return kept;
  int64_t columns = c_.clip == 0 ? 0 : c_.q_size() + 2 * c_.kv_size(), statistics = 1;
  for (const Slice& slice : slices_) {
    columns = std::max(columns, slice.first + slice.width);
    statistics += norms_[slice.norm].statistics();
  }
  kept.push_back(arena.take(type, {rows, columns}));
  kept.push_back(arena.take(Dtype::F32, {statistics, rows}));
  return kept;
}

std::vector<Tensor> Attention::plan_lasting(Arena& arena, int64_t rows, Dtype type, bool training) const {
  if (c_.shared_kv != SharedKv::gives) return {};
  std::vector<Tensor> lasting = {arena.take(type, {rows, 2 * c_.kv_size()})};
  if (training) lasting.push_back(arena.take(Dtype::F32, {rows, 2 * c_.kv_size()}));
  return lasting;
}

size_t Attention::scratch_bytes(const PassNeed& need) const {
  const size_t type = size_of(need.type), rows = static_cast<size_t>(need.rows);
  const size_t C = static_cast<size_t>(c_.hidden_size), Q = static_cast<size_t>(c_.q_size()), all = static_cast<size_t>(qkv_columns()),
               adapter = (std::max(C, Q) + static_cast<size_t>(need.adapter_columns)) * type,
               read = c_.reads_kv() ? 2 * static_cast<size_t>(c_.kv_size()) * type : 0;
  const size_t dealt = deal_.empty() ? 0 : all * type, gated = c_.gated() ? Q * type : 0;
  if (!need.training) return rows * (std::max(dealt, gated) + adapter);
  const size_t narrow = need.type == Dtype::F32 ? 0 : C * type,
               partial = static_cast<size_t>(attention_partial_columns(shape())) * sizeof(float);
  return rows * (Q * type + all * type + std::max({2 * gated + narrow + adapter, read + partial, dealt + adapter}));
}

size_t Attention::thread_bytes(const PassNeed& need) const {
  return attention_backward_bytes(shape(), need.type, need.longest, need.shared);
}

std::vector<Tensor> Attention::plan_carried(Arena& arena, int64_t rows, int64_t, Dtype type) const {
  if (c_.reads_kv()) return {};
  return {arena.take(type, {rows, c_.kv_size()}), arena.take(type, {rows, c_.kv_size()})};
}

// Two products of which half is seen.
double Attention::flops(int64_t tokens) const {
  return 2.0 * static_cast<double>(c_.q_size()) * static_cast<double>(tokens) * static_cast<double>(tokens);
}

// qkv [T, …] = the product with x, its columns dealt to [q | k | v | gate]
void Attention::project(const Step& s, const Tensor& qkv, const Tensor& x) const {
  const bool v_is_k = values_are_keys();
  if (deal_.empty()) {
    linear_forward(s, v_is_k ? qkv.col_range(0, c_.q_size() + c_.kv_size()) : qkv, x, qkv_);
  } else {
    const size_t mark = s.pass.scratch->mark();
    const Tensor raw = s.scratch(s.type(), qkv_columns());
    linear_forward(s, raw, x, qkv_);
    deal_columns(s.ctx, qkv, raw, deal_);
    s.pass.scratch->release(mark);
  }
  if (v_is_k) copy_rows(v(qkv), k(qkv));
  if (c_.clip == 0) return;
  clamp(s.ctx, qkv, qkv, c_.clip);
  copy_rows(s.kept(kBefore), qkv);
}

void Attention::norm_heads(const Step& s, const Tensor& qkv) const {
  if (!normed()) return;
  const Tensor before = s.kept(kBefore), &statistics = s.kept_tensors[kStatistics];
  copy_rows(before, qkv.col_range(0, before.cols()));
  int64_t at = 0;
  for (const Slice& slice : slices_) {
    const Norm& norm = norms_[slice.norm];
    norm_forward(s, norm, qkv.col_range(slice.first, slice.width), statistics.row_range(at, norm.statistics()),
                 before.col_range(slice.first, slice.width), slice.row);
    at += norm.statistics();
  }
}
void Attention::norm_heads_backward(const Step& s, const AdapterSet& trained, const Tensor& d_qkv) const {
  if (!normed()) return;
  const Tensor before = s.kept(kBefore), &statistics = s.kept_tensors[kStatistics];
  int64_t at = 0;
  for (const Slice& slice : slices_) {
    const Norm& norm = norms_[slice.norm];
    const Tensor d = d_qkv.col_range(slice.first, slice.width);
    norm_backward(s, norm, trained, d, d, before.col_range(slice.first, slice.width), statistics.row_range(at, norm.statistics()), false,
                  slice.row);
    at += norm.statistics();
  }
}

void Attention::heat(const Step& s, const Tensor& q) const {
  loraine::heat(s, q, {c_.temperature_beta, c_.temperature_offset, c_.temperature_length});
}

void Attention::prepare(const Step& s, const Tensor& qkv) const {
  const Tensor qk = qkv.col_range(0, c_.q_size() + c_.own_kv_size());
  if (!c_.norm_after_rope) norm_heads(s, qkv);
  if (c_.rope) rotate(s, *c_.rope, qk, c_.head_dim);
  if (c_.norm_after_rope) norm_heads(s, qkv);
  heat(s, q(qkv));
}
void Attention::prepare_backward(const Step& s, const AdapterSet& trained, const Tensor& d_qkv) const {
  const Tensor d_qk = d_qkv.col_range(0, c_.q_size() + c_.own_kv_size());
  heat(s, q(d_qkv));
  if (c_.norm_after_rope) norm_heads_backward(s, trained, d_qkv);
  if (c_.rope) rotate_backward(s, *c_.rope, d_qk, c_.head_dim);
  if (!c_.norm_after_rope) norm_heads_backward(s, trained, d_qkv);
}

Tensor Attention::shared(const Step& s, Lasting which) const {
  return s.rows(s.pass.activations->layers[static_cast<size_t>(c_.kv_layer)][c_.kv_branch].lasting[which]);
}

void Attention::attend(const Step& s, const Tensor& o, const Tensor& lse, const Tensor& qkv) const {
  if (!s.decoding()) {
    if (c_.shared_kv == SharedKv::gives) copy_rows(shared(s, kShared), kv(qkv));
    const Tensor of_keys = c_.reads_kv() ? shared(s, kShared) : kv(qkv);
    return attention(s.ctx, o, lse, q(qkv), of_keys.col_range(0, c_.kv_size()), of_keys.col_range(c_.kv_size(), c_.kv_size()),
                     s.batch.sequences, shape(s));
  }
  if (c_.reads_kv()) {  // the layer that gives them has put this batch's there
    const std::vector<Tensor>& given = s.pass.cache->layers[static_cast<size_t>(c_.kv_layer)][c_.kv_branch];
    return attention(s.ctx, o, Tensor(), q(qkv), given[0], given[1], s.batch.sequences, shape(s));
  }
  store_keys_and_values(s, k(qkv), v(qkv));
  attention(s.ctx, o, Tensor(), q(qkv), s.carried[0], s.carried[1], s.batch.sequences, shape(s));
}

// What later layers gave the gradient of k and v that they share joins that of this one.
void Attention::attend_backward(const Step& s, AdapterSet& trained, const Tensor& d_qkv, const Tensor& d_o) const {
  const size_t mark = s.pass.scratch->mark();
  const Tensor qkv = s.kept(kQkv), of_keys = c_.reads_kv() ? shared(s, kShared) : kv(qkv),
               d_of_keys = c_.reads_kv() ? s.scratch(s.type(), 2 * c_.kv_size()) : kv(d_qkv);
  const auto keys = [&](const Tensor& t) { return t.col_range(0, c_.kv_size()); };
  const auto values = [&](const Tensor& t) { return t.col_range(c_.kv_size(), c_.kv_size()); };
  const AttentionShape shape = this->shape(s);
  const Tensor d_sinks = gradient_of(trained.dense.get(), sinks_);
  attention_backward(s.ctx, q(d_qkv), keys(d_of_keys), values(d_of_keys), d_o, s.kept(kO), s.kept(kLse), q(qkv), keys(of_keys),
                     values(of_keys), s.batch.sequences, shape, s.scratch(Dtype::F32, attention_partial_columns(shape)),
                     d_sinks.data ? d_sinks.f32() : nullptr);
  if (c_.shared_kv == SharedKv::gives) add(s.ctx, d_of_keys, d_of_keys, shared(s, kSharedGradient));
  if (c_.shared_kv == SharedKv::reads) add(s.ctx, shared(s, kSharedGradient), shared(s, kSharedGradient), d_of_keys);
  if (c_.shared_kv == SharedKv::reads_last) convert_rows(s.ctx, shared(s, kSharedGradient), d_of_keys);
  s.pass.scratch->release(mark);
}

void Attention::forward(const Step& s, const Tensor& y, const Tensor& x) const {
  const Tensor qkv = s.kept(kQkv), o = s.kept(kO);
  project(s, qkv, x);
  prepare(s, qkv);
  attend(s, o, s.kept(kLse), qkv);
  if (!y.data) return;
  const size_t mark = s.pass.scratch->mark();
  Tensor out = o;
  if (c_.gated()) {
    out = s.scratch(s.type(), c_.q_size());
    sigmoid_gate(s.ctx, out, o, gate(qkv));
  }
  linear_forward(s, y, out, output_);
  s.pass.scratch->release(mark);
}

void Attention::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x) const {
  const Tensor qkv = s.kept(kQkv), o = s.kept(kO), d_o = s.scratch(s.type(), c_.q_size()), d_qkv = s.scratch(s.type(), qkv_columns());
  const size_t mark = s.pass.scratch->mark();
  if (c_.gated()) {
    const Tensor out = s.scratch(s.type(), c_.q_size()), d_out = s.scratch(s.type(), c_.q_size());
    sigmoid_gate(s.ctx, out, o, gate(qkv));
    linear_backward(s, trained, d_out, as_operand(s, d_y), out, output_);
    sigmoid_gate_backward(s.ctx, d_o, gate(d_qkv), d_out, o, gate(qkv));
  } else {
    linear_backward(s, trained, d_o, as_operand(s, d_y), o, output_);
  }
  s.pass.scratch->release(mark);
  attend_backward(s, trained, d_qkv, d_o);
  prepare_backward(s, trained, d_qkv);
  if (c_.clip != 0) clamp_backward(s.ctx, d_qkv, s.kept(kBefore), c_.clip);
  Tensor d_product = d_qkv;
  if (values_are_keys()) {
    add(s.ctx, k(d_qkv), k(d_qkv), v(d_qkv));
    d_product = d_qkv.col_range(0, c_.q_size() + c_.kv_size());
  } else if (!deal_.empty()) {
    d_product = s.scratch(s.type(), qkv_columns());
    deal_columns_back(s.ctx, d_product, d_qkv, deal_);
  }
  linear_backward(s, trained, d_x, d_product, x, qkv_);
  s.pass.scratch->release(mark);
}

}  // namespace loraine
