// The steps of one block: norm, q k v, rotation, attention, output; norm, gate and up, swiglu, down. Forward and backward of each stand
// together.
#include "loraine/model/block.h"

#include <cstring>

#include "loraine/kernels/attention/rope.h"
#include "loraine/kernels/products/low_rank_rows.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/rms_norm.h"
#include "loraine/kernels/rows/swiglu.h"
#include "loraine/kernels/training/dense_gradients.h"

namespace loraine {
namespace {

void copy_rows(const Tensor& to, const Tensor& from) {
  for (int64_t i = 0; i < from.rows(); ++i)
    std::memcpy(to.row_range(i, 1).data, from.row_range(i, 1).data, static_cast<size_t>(from.cols()) * size_of(from.dtype));
}

// The gradient of the residual stream in the type that products take
Tensor as_operand(const Step& s, const Tensor& d_x) {
  if (d_x.dtype == s.type()) return d_x;
  Tensor narrow = s.scratch(s.type(), d_x.cols());
  convert_rows(s.ctx, narrow, d_x);
  return narrow;
}

const Weight& site_weight(const Step& s, const DenseSet* set, SiteKind site) {
  const DenseBlock* dense = s.dense(set);
  return dense && !dense->sites[site].weight.parts.empty() ? dense->sites[site].weight : s.weights().sites[site];
}

// The weight of one of the block's norms, as the base or the set has it
using NormOf = DenseTensor DenseBlock::*;
Tensor norm_weight(const Step& s, const DenseSet* set, const std::vector<float>& base, NormOf norm) {
  const DenseBlock* dense = s.dense(set);
  return dense && (dense->*norm).value.data ? (dense->*norm).value : vector_view(base);
}

// y = rms_norm(x), or with `rebuild` the same from the saved rstd
void block_norm(const Step& s, const Tensor& y, const Tensor& rstd, const Tensor& x, const std::vector<float>& base, NormOf norm,
                bool rebuild = false) {
  for_each_dense(s.batch, s.pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    const Tensor weight = norm_weight(s, set, base, norm), out = y.row_range(first, count), in = x.row_range(first, count),
                 scale = rstd.row_range(first, count);
    if (rebuild) rms_norm_rebuild(s.ctx, out, in, scale, weight);
    else rms_norm(s.ctx, out, scale, in, weight, s.c().rms_norm_eps);
  });
}
// d_x (+)= gradient of x when its data is there; that of the weight where it is trained. d_x may be d_y.
void block_norm_backward(const Step& s, const AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x,
                         const Tensor& rstd, const std::vector<float>& base, NormOf norm, bool accumulate) {
  const DenseBlock* dense = s.dense(trained.dense.get());
  if (dense && (dense->*norm).gradient.data) norm_weight_gradient(s.ctx, (dense->*norm).gradient, d_y, x, rstd);
  if (d_x.data) rms_norm_backward(s.ctx, d_x, d_y, x, rstd, norm_weight(s, trained.dense.get(), base, norm), accumulate);
}

// Columns of an adapter up to which its products row by row are as fast as those of a library.
constexpr int64_t kMostRowColumns = 256;

}  // namespace

void dense_site_gradients(Context& ctx, const DenseSite& site, const Tensor& d_y, const Tensor& x) {
  int64_t offset = 0;
  for (size_t p = 0; p < site.weight.parts.size(); ++p) {
    const Tensor d_part = d_y.col_range(offset, site.weight.parts[p].weight.rows());
    if (site.d_weight[p].data) matmul_tn(ctx, site.d_weight[p], d_part, x, 1, 1);
    if (site.d_bias[p].data) bias_gradient(ctx, site.d_bias[p], d_part);
    offset += d_part.cols();
  }
}

std::optional<LowRank> run_by_rows(const Adapter& adapter, bool training) {
  return !training && adapter.saved_width() <= kMostRowColumns ? adapter.low_rank() : std::nullopt;
}

namespace {

// y = W x + adapters(x) over their row ranges
void linear_forward(const Step& s, const Tensor& y, const Tensor& x, SiteKind site) {
  if (s.pass.before_site) s.pass.before_site(s.layer, site);
  for_each_dense(s.batch, s.pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    multiply_weight(s.ctx, y.row_range(first, count), site_weight(s, set, site), x.row_range(first, count));
  });
  std::vector<LowRankRange> by_rows;
  for (const AdapterRows& range : s.batch.adapter_rows) {
    const Adapter* adapter = s.pass.adapters.at(static_cast<size_t>(range.set))->at(s.layer, site);
    if (!adapter) continue;
    if (const auto low_rank = run_by_rows(*adapter, s.pass.training)) {
      by_rows.push_back({*low_rank, range.start, range.length});
      continue;
    }
    Tensor saved = s.saved().adapter[site];
    saved.shape[1] = adapter->saved_width();
    adapter->forward(s.ctx, y.row_range(range.start, range.length), x.row_range(range.start, range.length),
                     saved.row_range(range.start, range.length), s.pass.training, *s.pass.scratch);
  }
  if (!by_rows.empty()) low_rank_rows(s.ctx, y, x, s.rows(s.saved().adapter[site]), by_rows);
}

// d_x = d_y W + adapter part; nothing of d_x is computed when its data is nullptr
void linear_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor& x, SiteKind site) {
  const DenseBlock* dense = s.dense(trained.dense.get());
  if (dense) dense_site_gradients(s.ctx, dense->sites[site], d_y, x);
  const Weight& base = site_weight(s, trained.dense.get(), site);
  if (Adapter* adapter = trained.at(s.layer, site)) {
    Tensor saved = s.rows(s.saved().adapter[site]);
    saved.shape[1] = adapter->saved_width();
    adapter->site_backward(s.ctx, base, d_x, d_y, x, saved, *s.pass.scratch);
  } else if (d_x.data) {
    multiply_weight_backward(s.ctx, d_x, base, d_y, false);
  }
}

// RMSNorm over each head of q and k (Qwen 3), then the rotation
void norm_and_rotate(const Step& s, const Tensor& qkv) {
  const ModelConfig& c = s.c();
  int64_t heads = c.num_attention_heads + c.num_key_value_heads;
  if (c.qk_norm) {
    Tensor before = s.rows(s.saved().qk_before_norm);
    copy_rows(before, qkv.col_range(0, heads * c.head_dim));
    for (int64_t h = 0; h < heads; ++h) {
      Tensor rstd(s.saved().qk_rstd.row_range(h, 1).data, Dtype::F32, {s.batch.rows()});
      const bool query = h < c.num_attention_heads;
      block_norm(s, qkv.col_range(h * c.head_dim, c.head_dim), rstd, before.col_range(h * c.head_dim, c.head_dim),
                 query ? s.weights().q_norm : s.weights().k_norm, query ? &DenseBlock::q_norm : &DenseBlock::k_norm);
    }
  }
  rope(s.ctx, qkv.col_range(0, heads * c.head_dim), c.head_dim, s.batch.positions, c.inverse_frequencies);
}
void norm_and_rotate_backward(const Step& s, const AdapterSet& trained, const Tensor& d_qkv) {
  const ModelConfig& c = s.c();
  int64_t heads = c.num_attention_heads + c.num_key_value_heads;
  rope_backward(s.ctx, d_qkv.col_range(0, heads * c.head_dim), c.head_dim, s.batch.positions, c.inverse_frequencies);
  if (!c.qk_norm) return;
  Tensor before = s.rows(s.saved().qk_before_norm);
  for (int64_t h = 0; h < heads; ++h) {
    Tensor rstd(s.saved().qk_rstd.row_range(h, 1).data, Dtype::F32, {s.batch.rows()});
    Tensor d = d_qkv.col_range(h * c.head_dim, c.head_dim);
    const bool query = h < c.num_attention_heads;
    block_norm_backward(s, trained, d, d, before.col_range(h * c.head_dim, c.head_dim), rstd,
                        query ? s.weights().q_norm : s.weights().k_norm, query ? &DenseBlock::q_norm : &DenseBlock::k_norm, false);
  }
}

void attend(const Step& s, const Tensor& o, const Tensor& lse, const Tensor& qkv) {
  const ModelConfig& c = s.c();
  Tensor q = qkv.col_range(0, c.q_size()), k = qkv.col_range(c.q_size(), c.kv_size()),
         v = qkv.col_range(c.q_size() + c.kv_size(), c.kv_size());
  if (KvCache* cache = s.pass.cache) {
    Tensor cache_k = cache->k[static_cast<size_t>(s.layer)], cache_v = cache->v[static_cast<size_t>(s.layer)];
    for (const Sequence& sequence : s.batch.sequences) {
      int64_t first = sequence.kv_start + sequence.kv_length - sequence.length;
      copy_rows(cache_k.row_range(first, sequence.length), k.row_range(sequence.start, sequence.length));
      copy_rows(cache_v.row_range(first, sequence.length), v.row_range(sequence.start, sequence.length));
    }
    attention(s.ctx, o, Tensor(), q, cache_k, cache_v, s.batch.sequences, s.attention_shape());
  } else {
    attention(s.ctx, o, lse, q, k, v, s.batch.sequences, s.attention_shape());
  }
}

// to [T, C] = from + y, the residual stream one step on. With BF16 activations `from` and `to` are roundings of the stream, which is kept
// in F32 for the forward alone: what blocks compute depends on the roundings, so it can be computed again.
void add_to_stream(const Step& s, const Tensor& to, const Tensor& from, const Tensor& y) {
  if (to.dtype == Dtype::F32) return add(s.ctx, to, from, y);
  add_rounded(s.ctx, s.rows(s.pass.activations->stream), to, y);
}

}  // namespace

// qkv, o and x_mid = x + output(attention(rotate(qkv(norm(x))))); `again`: in the backward, where a rounded x_mid is still there
void attention_forward(const Step& s, bool again) {
  BlockActivations& a = s.saved();
  Tensor x = s.rows(a.x), qkv = s.rows(a.qkv), o = s.rows(a.o);
  size_t mark = s.pass.scratch->mark();
  Tensor h = s.scratch(s.type(), s.c().hidden_size);
  block_norm(s, h, s.rows(a.rstd1), x, s.weights().input_norm, &DenseBlock::input_norm);
  linear_forward(s, qkv, h, kQkv);
  norm_and_rotate(s, qkv);
  attend(s, o, s.rows(a.lse), qkv);
  Tensor y = s.scratch(Dtype::F32, s.c().hidden_size);
  linear_forward(s, y, o, kOutput);
  if (!again || s.type() == Dtype::F32) add_to_stream(s, s.rows(a.x_mid), x, y);
  s.pass.scratch->release(mark);
}

// gate_up of norm(x_mid)
void gate_up_forward(const Step& s) {
  BlockActivations& a = s.saved();
  size_t mark = s.pass.scratch->mark();
  Tensor h = s.scratch(s.type(), s.c().hidden_size);
  block_norm(s, h, s.rows(a.rstd2), s.rows(a.x_mid), s.weights().post_norm, &DenseBlock::post_norm);
  linear_forward(s, s.rows(a.gate_up), h, kGateUp);
  s.pass.scratch->release(mark);
}

// x_next [T, C] = x_mid + down(swiglu(gate_up)), the residual stream after this block
void down_forward(const Step& s, const Tensor& x_next) {
  BlockActivations& a = s.saved();
  size_t mark = s.pass.scratch->mark();
  Tensor h = s.scratch(Dtype::F32, s.c().hidden_size), f = s.scratch(s.type(), s.c().intermediate_size);
  swiglu(s.ctx, f, s.rows(a.gate_up));
  linear_forward(s, h, f, kDown);
  add_to_stream(s, x_next, s.rows(a.x_mid), h);
  s.pass.scratch->release(mark);
}

void recompute(const Step& s) {
  const Recompute level = s.pass.activations->recompute;
  if (s.layer + 1 == s.c().num_hidden_layers) return;
  if (level == Recompute::block) attention_forward(s, true);
  if (level != Recompute::none) gate_up_forward(s);
}

void block_backward(const Step& s, AdapterSet& trained, const Tensor& d_x, bool first) {
  const ModelConfig& c = s.c();
  BlockActivations& a = s.saved();
  Tensor x = s.rows(a.x), qkv = s.rows(a.qkv), o = s.rows(a.o), x_mid = s.rows(a.x_mid), gate_up = s.rows(a.gate_up);
  size_t mark = s.pass.scratch->mark();
  Tensor h = s.scratch(s.type(), c.hidden_size), d_h = s.scratch(Dtype::F32, c.hidden_size);
  size_t inner = s.pass.scratch->mark();
  {  // x_next = x_mid + down(swiglu(gate_up(norm(x_mid))))
    Tensor f = s.scratch(s.type(), c.intermediate_size), d_f = s.scratch(s.type(), c.intermediate_size);
    swiglu(s.ctx, f, gate_up);
    linear_backward(s, trained, d_f, as_operand(s, d_x), f, kDown);
    swiglu_backward(s.ctx, gate_up, d_f, gate_up);
    block_norm(s, h, s.rows(a.rstd2), x_mid, s.weights().post_norm, &DenseBlock::post_norm, true);
    linear_backward(s, trained, d_h, gate_up, h, kGateUp);
    block_norm_backward(s, trained, d_x, d_h, x_mid, s.rows(a.rstd2), s.weights().post_norm, &DenseBlock::post_norm, true);
    s.pass.scratch->release(inner);
  }
  {  // x_mid = x + output(attention(rotate(qkv(norm(x)))))
    Tensor d_o = s.scratch(s.type(), c.q_size()), d_qkv = s.scratch(s.type(), c.q_size() + 2 * c.kv_size());
    size_t before_attention = s.pass.scratch->mark();
    linear_backward(s, trained, d_o, as_operand(s, d_x), o, kOutput);
    s.pass.scratch->release(before_attention);
    Tensor q = qkv.col_range(0, c.q_size()), k = qkv.col_range(c.q_size(), c.kv_size()),
           v = qkv.col_range(c.q_size() + c.kv_size(), c.kv_size());
    attention_backward(s.ctx, d_qkv.col_range(0, c.q_size()), d_qkv.col_range(c.q_size(), c.kv_size()),
                       d_qkv.col_range(c.q_size() + c.kv_size(), c.kv_size()), d_o, o, s.rows(a.lse), q, k, v, s.batch.sequences,
                       s.attention_shape(), s.scratch(Dtype::F32, attention_partial_columns(s.attention_shape())));
    s.pass.scratch->release(before_attention);
    norm_and_rotate_backward(s, trained, d_qkv);
    block_norm(s, h, s.rows(a.rstd1), x, s.weights().input_norm, &DenseBlock::input_norm, true);
    const DenseBlock* dense = s.dense(trained.dense.get());
    const bool below = !first || (dense && dense->input_norm.gradient.data);  // something below the site is trained
    linear_backward(s, trained, below ? d_h : Tensor(), d_qkv, h, kQkv);
    if (below)
      block_norm_backward(s, trained, first ? Tensor() : d_x, d_h, x, s.rows(a.rstd1), s.weights().input_norm, &DenseBlock::input_norm,
                          true);
  }
  s.pass.scratch->release(mark);
}

}  // namespace loraine
