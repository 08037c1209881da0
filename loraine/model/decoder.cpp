// embed → block × L → norm, and the way back. Forward and backward of each step stand together.
#include "loraine/model/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/adapters/dense.h"
#include "loraine/adapters/embedding_lora.h"
#include "loraine/core/error.h"
#include "loraine/kernels/attention/attention.h"
#include "loraine/kernels/attention/rope.h"
#include "loraine/kernels/products/low_rank_rows.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/rms_norm.h"
#include "loraine/kernels/rows/swiglu.h"
#include "loraine/kernels/training/dense_gradients.h"
#include "loraine/kernels/training/noise.h"

namespace loraine {
namespace {

constexpr uint64_t kEmbeddingNoise = uint64_t{1} << 40;  // a place of its own beside the sites of dropout

Tensor vector_view(const std::vector<float>& v) {
  return Tensor(const_cast<float*>(v.data()), Dtype::F32, {static_cast<int64_t>(v.size())});
}

void copy_rows(const Tensor& to, const Tensor& from) {
  for (int64_t i = 0; i < from.rows(); ++i)
    std::memcpy(to.row_range(i, 1).data, from.row_range(i, 1).data, static_cast<size_t>(from.cols()) * size_of(from.dtype));
}

// f(first row, number of rows, set) for the ranges of the batch and the gaps between them (set == nullptr), in order; one call for all rows
// where no set has trained tensors in the place of the base's.
template <class F>
void for_each_dense(const Batch& batch, const Pass& pass, const F& f) {
  if (std::ranges::none_of(pass.adapters, [](const AdapterSet* set) { return set->dense != nullptr; })) return f(0, batch.rows(), nullptr);
  int64_t next = 0;
  for (const AdapterRows& range : batch.adapter_rows) {
    if (range.start < next) throw Error(ErrorKind::internal, "adapter rows overlap or are out of order");
    if (range.start > next) f(next, range.start - next, nullptr);
    f(range.start, range.length, pass.adapters.at(static_cast<size_t>(range.set))->dense.get());
    next = range.start + range.length;
  }
  if (next < batch.rows()) f(next, batch.rows() - next, nullptr);
}

struct Step {  // what every step of one block needs
  Context& ctx;
  const Model& model;
  const Batch& batch;
  Pass& pass;
  int64_t layer;
  const ModelConfig& c() const { return model.config; }
  const BlockWeights& weights() const { return model.blocks[static_cast<size_t>(layer)]; }
  BlockActivations& saved() const { return pass.activations->blocks[pass.activations->training ? static_cast<size_t>(layer) : 0]; }
  const DenseBlock* dense(const DenseSet* set) const { return set ? &set->blocks[static_cast<size_t>(layer)] : nullptr; }
  Tensor rows(const Tensor& t) const { return t.row_range(0, batch.rows()); }
  Dtype type() const { return model.activation_dtype(); }
  Tensor scratch(Dtype dtype, int64_t cols) const { return pass.scratch->take(dtype, {batch.rows(), cols}); }
  AttentionShape attention_shape() const {
    return {c().num_attention_heads, c().num_key_value_heads, c().head_dim, c().window[static_cast<size_t>(layer)],
            1.0f / std::sqrt(static_cast<float>(c().head_dim))};
  }
};

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

// dW += dYᵀ X and db += Σ dY of the parts that are trained
void dense_site_gradients(Context& ctx, const DenseSite& site, const Tensor& d_y, const Tensor& x) {
  int64_t offset = 0;
  for (size_t p = 0; p < site.weight.parts.size(); ++p) {
    const Tensor d_part = d_y.col_range(offset, site.weight.parts[p].weight.rows());
    if (site.d_weight[p].data) matmul_tn(ctx, site.d_weight[p], d_part, x, 1, 1);
    if (site.d_bias[p].data) bias_gradient(ctx, site.d_bias[p], d_part);
    offset += d_part.cols();
  }
}

// Columns of an adapter up to which its products row by row are as fast as those of a library.
constexpr int64_t kMostRowColumns = 256;

// Without training, adapters that are plain low-rank products run together: a row then has the same bits in a range of any length, and a
// batch of many adapters costs little more than one of one.
std::optional<LowRank> run_by_rows(const Adapter& adapter, bool training) {
  return !training && adapter.saved_width() <= kMostRowColumns ? adapter.low_rank() : std::nullopt;
}

// y = W x + adapters(x) over their row ranges
void linear_forward(const Step& s, const Tensor& y, const Tensor& x, SiteKind site) {
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

// qkv, o and x_mid = x + output(attention(rotate(qkv(norm(x))))); `again`: in the backward, where a rounded x_mid is still there
void attention_forward(const Step& s, bool again = false) {
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

// What the forward did not keep; called where the backward of the block begins. The last block's are still there.
void recompute(const Step& s) {
  const Recompute level = s.pass.activations->recompute;
  if (s.layer + 1 == s.c().num_hidden_layers) return;
  if (level == Recompute::block) attention_forward(s, true);
  if (level != Recompute::none) gate_up_forward(s);
}

// d_x [T, C] F32: gradient of the block's output on entry, of its input on return (left unfinished when the block is the first one)
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

bool trains(const DenseBlock& block) {
  return block.input_norm.gradient.data || block.post_norm.gradient.data || block.q_norm.gradient.data || block.k_norm.gradient.data ||
         std::ranges::any_of(block.sites, [](const DenseSite& site) { return site.trains(); });
}

// First layer with something trained: the backward stops there. -1: the embedding is trained too.
int64_t first_trained_layer(const AdapterSet& set, int64_t layers) {
  if (set.embedding || (set.dense && set.dense->embedding.gradient.data)) return -1;
  for (int64_t layer = 0; layer < layers; ++layer) {
    if (set.dense && trains(set.dense->blocks[static_cast<size_t>(layer)])) return layer;
    for (int kind = 0; kind < kSiteKinds; ++kind)
      if (set.at(layer, static_cast<SiteKind>(kind))) return layer;
  }
  return layers;
}

// x [T, C] = embedding(tokens) + LoRA on it
void embed(Context& ctx, const Model& model, const Batch& batch, const Pass& pass, const Tensor& x) {
  const auto tokens = [&](int64_t first, int64_t count) {
    return std::span(batch.tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  };
  for_each_dense(batch, pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    const Tensor& table = set && set->embedding.value.data ? set->embedding.value : model.embedding;
    embedding(ctx, x.row_range(first, count), table, tokens(first, count));
  });
  for (const AdapterRows& range : batch.adapter_rows)
    if (const auto& lora = pass.adapters.at(static_cast<size_t>(range.set))->embedding)
      lora->forward(ctx, x.row_range(range.start, range.length), tokens(range.start, range.length), *pass.scratch);
}
void embed_backward(Context& ctx, const Batch& batch, const Pass& pass, AdapterSet& trained, const Tensor& d_x) {
  if (trained.dense && trained.dense->embedding.gradient.data)
    embedding_gradient(ctx, trained.dense->embedding.gradient, d_x, batch.tokens);
  if (trained.embedding) trained.embedding->backward(ctx, d_x, batch.tokens, *pass.scratch);
}

Tensor final_norm(const Model& model, const DenseSet* set) {
  return set && set->final_norm.value.data ? set->final_norm.value : vector_view(model.final_norm);
}

const Weight& head_weight(const Model& model, const AdapterSet* set) {
  return set && set->dense && !set->dense->head.weight.parts.empty() ? set->dense->head.weight : model.head;
}

int64_t saved_width(const std::vector<const AdapterSet*>& adapters, int64_t layer, int kind) {
  int64_t width = 0;
  for (const AdapterSet* set : adapters)
    if (const Adapter* adapter = set->at(layer, static_cast<SiteKind>(kind))) width = std::max(width, adapter->saved_width());
  return width;
}

int64_t scratch_width(const std::vector<const AdapterSet*>& adapters, int64_t layer, int kind) {
  int64_t width = 0;
  for (const AdapterSet* set : adapters)
    if (const Adapter* adapter = set->at(layer, static_cast<SiteKind>(kind)))
      width = std::max(width, adapter->saved_width() + adapter->scratch_width());
  return width;
}

}  // namespace

size_t kv_cache_bytes(const Model& model, int64_t capacity) {
  const ModelConfig& config = model.config;
  return static_cast<size_t>(capacity * config.kv_size() * 2 * config.num_hidden_layers) * size_of(model.activation_dtype());
}

KvCache::KvCache(const Model& model, int64_t rows) : capacity(rows) {
  const ModelConfig& config = model.config;
  const Dtype type = model.activation_dtype();
  const size_t each = static_cast<size_t>(rows * config.kv_size()) * size_of(type);
  memory = Buffer(kv_cache_bytes(model, rows));
  char* next = static_cast<char*>(memory.data());
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer, next += 2 * each) {
    k.emplace_back(next, type, std::initializer_list<int64_t>{rows, config.kv_size()});
    v.emplace_back(next + each, type, std::initializer_list<int64_t>{rows, config.kv_size()});
  }
}

Activations plan_activations(const Model& model, int64_t rows, bool training, const std::vector<const AdapterSet*>& adapters, Arena& arena,
                             Recompute recompute) {
  const ModelConfig& c = model.config;
  const Dtype type = model.activation_dtype();
  Activations all;
  all.training = training;
  all.recompute = recompute;
  all.blocks.resize(training ? static_cast<size_t>(c.num_hidden_layers) : 1);
  for (size_t i = 0; i < all.blocks.size(); ++i) {
    if (i > 0) all.blocks[i] = all.blocks[0];  // what is not kept is shared
    BlockActivations& a = all.blocks[i];
    a.x = arena.take(type, {rows, c.hidden_size});
    const bool rounded = type != Dtype::F32;
    if (rounded) a.x_mid = arena.take(type, {rows, c.hidden_size});
    if (i == 0 || recompute != Recompute::block) {
      a.rstd1 = arena.take(Dtype::F32, {rows});
      a.qkv = arena.take(type, {rows, c.q_size() + 2 * c.kv_size()});
      if (c.qk_norm) {
        int64_t heads = c.num_attention_heads + c.num_key_value_heads;
        a.qk_before_norm = arena.take(type, {rows, heads * c.head_dim});
        a.qk_rstd = arena.take(Dtype::F32, {heads, rows});
      }
      a.o = arena.take(type, {rows, c.q_size()});
      a.lse = arena.take(Dtype::F32, {rows, c.num_attention_heads});
      if (!rounded) a.x_mid = arena.take(type, {rows, c.hidden_size});
      a.rstd2 = arena.take(Dtype::F32, {rows});
    }
    if (i == 0 || recompute == Recompute::none) a.gate_up = arena.take(type, {rows, 2 * c.intermediate_size});
    for (int kind = 0; kind < kSiteKinds; ++kind) {
      const bool again = kind == kGateUp ? recompute != Recompute::none : kind != kDown && recompute == Recompute::block;
      if (i > 0 && again) continue;  // written once more in the backward, like what the site gives
      int64_t width = 0;
      if (training && !again) width = saved_width(adapters, static_cast<int64_t>(i), kind);
      else
        for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) width = std::max(width, saved_width(adapters, layer, kind));
      a.adapter[kind] = arena.take(type, {rows, width});
    }
  }
  if (type != Dtype::F32) all.stream = arena.take(Dtype::F32, {rows, c.hidden_size});
  all.x_last = arena.take(type, {rows, c.hidden_size});
  all.rstd_last = arena.take(Dtype::F32, {rows});
  all.hidden = arena.take(type, {rows, c.hidden_size});
  return all;
}

// The widest moment of each step, in bytes of a row; adapters need their input once more (dropout) and the gradient of their columns.
size_t scratch_bytes(const Model& model, int64_t rows, bool training, const std::vector<const AdapterSet*>& adapters) {
  const ModelConfig& c = model.config;
  int64_t ranks = 0;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    for (int kind = 0; kind < kSiteKinds; ++kind) ranks = std::max(ranks, scratch_width(adapters, layer, kind));
  for (const AdapterSet* set : adapters)
    if (set->embedding) ranks = std::max(ranks, 2 * set->embedding->r());  // F32 whatever the others are
  const int64_t f32 = sizeof(float), type = static_cast<int64_t>(size_of(model.activation_dtype()));
  const int64_t C = c.hidden_size, F = c.intermediate_size, Q = c.q_size(), adapter = (std::max({C, F, Q}) + ranks) * type;
  int64_t row = C * (f32 + type) + F * type + adapter;
  if (training) {
    const int64_t narrow = type == f32 ? 0 : C * type;  // of the residual stream's gradient
    const int64_t partial = attention_partial_columns({c.num_attention_heads, c.num_key_value_heads, c.head_dim}) * f32;
    const int64_t mlp = 2 * F * type + narrow + adapter, attention = (2 * Q + 2 * c.kv_size()) * type + std::max(narrow + adapter, partial);
    row = std::max(row, C * (f32 + type) + std::max(mlp, attention));
  }
  return static_cast<size_t>(rows * row) + 64 * 24;
}

void decoder_forward(Context& ctx, const Model& model, const Batch& batch, Pass& pass) {
  Activations& all = *pass.activations;
  int64_t rows = batch.rows();
  const Tensor x = all.blocks[0].x.row_range(0, rows), stream = all.stream.data ? all.stream.row_range(0, rows) : x;
  embed(ctx, model, batch, pass, stream);
  if (pass.training && pass.embedding_noise > 0) add_noise(ctx, stream, pass.embedding_noise, kEmbeddingNoise);
  if (x.dtype != stream.dtype) convert_rows(ctx, x, stream);
  for (int64_t layer = 0; layer < model.config.num_hidden_layers; ++layer) {
    bool last = layer + 1 == model.config.num_hidden_layers;
    Tensor next = last ? all.x_last : all.blocks[all.training ? static_cast<size_t>(layer) + 1 : 0].x;
    const Step s{ctx, model, batch, pass, layer};
    attention_forward(s);
    gate_up_forward(s);
    down_forward(s, next.row_range(0, rows));
    for (const Weight& weight : s.weights().sites)
      for (const WeightPart& part : weight.parts) model.release(part.weight, part.owned);
  }
  for_each_dense(batch, pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    rms_norm(ctx, all.hidden.row_range(first, count), all.rstd_last.row_range(first, count), all.x_last.row_range(first, count),
             final_norm(model, set), model.config.rms_norm_eps);
  });
}

void decoder_backward(Context& ctx, const Model& model, const Batch& batch, Pass& pass, AdapterSet& trained, const Tensor& d_hidden) {
  Activations& all = *pass.activations;
  int64_t rows = batch.rows(), first = first_trained_layer(trained, model.config.num_hidden_layers);
  const DenseSet* dense = trained.dense.get();
  const Tensor x_last = all.x_last.row_range(0, rows), rstd_last = all.rstd_last.row_range(0, rows);
  if (dense && dense->final_norm.gradient.data) norm_weight_gradient(ctx, dense->final_norm.gradient, d_hidden, x_last, rstd_last);
  if (first == model.config.num_hidden_layers) return;
  rms_norm_backward(ctx, d_hidden, d_hidden, x_last, rstd_last, final_norm(model, dense), false);
  for (int64_t layer = model.config.num_hidden_layers - 1; layer >= std::max<int64_t>(first, 0); --layer) {
    const Step s{ctx, model, batch, pass, layer};
    recompute(s);
    block_backward(s, trained, d_hidden, layer == first);
  }
  if (first < 0) embed_backward(ctx, batch, pass, trained, d_hidden);
}

bool changes_head(const AdapterSet* set) { return set && (set->head() || (set->dense && !set->dense->head.weight.parts.empty())); }

size_t head_scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set) {
  if (!set || !set->head()) return 0;
  const int64_t width = set->head()->saved_width();  // its columns, their gradient, and the input once more (dropout)
  return static_cast<size_t>(rows * (2 * width + model.config.hidden_size)) * sizeof(float) + 64 * 4;
}

void head_logits(Context& ctx, const Model& model, const Tensor& logits, const Tensor& hidden, const AdapterSet* set, Arena& scratch,
                 const Tensor& saved, bool training) {
  const Weight& weight = head_weight(model, set);
  if (!model.read_once || &weight != &model.head) {
    multiply_weight(ctx, logits, weight, hidden);
  } else {  // The largest matrix of all, by pieces of its rows; the head has neither parts nor bias.
    constexpr int64_t kPieceRows = 16384;
    const WeightPart& head = model.head.parts.at(0);
    for (int64_t first = 0; first < head.weight.rows(); first += kPieceRows) {
      const Tensor piece = head.weight.row_range(first, std::min(kPieceRows, head.weight.rows() - first));
      matmul_nt(ctx, logits.col_range(first, piece.rows()), hidden, piece);
      model.release(piece, head.owned);
    }
  }
  if (!set || !set->head()) return;
  const size_t mark = scratch.mark();
  const Tensor columns = saved.data ? saved : scratch.take(hidden.dtype, {hidden.rows(), set->head()->saved_width()});
  if (const auto low_rank = run_by_rows(*set->head(), training)) {
    const LowRankRange all{*low_rank, 0, hidden.rows()};
    low_rank_rows(ctx, logits, hidden, columns, std::span(&all, 1));
  } else {
    set->head()->forward(ctx, logits, hidden, columns, training, scratch);
  }
  scratch.release(mark);
}

void head_backward(Context& ctx, const Model& model, const AdapterSet* trained, const Tensor& d_hidden, const Tensor& d_logits,
                   const Tensor& hidden, const Tensor& saved, Arena& scratch) {
  multiply_weight_backward(ctx, d_hidden, head_weight(model, trained), d_logits, false);
  if (trained && trained->dense) dense_site_gradients(ctx, trained->dense->head, d_logits, hidden);
  if (trained && trained->head()) trained->head()->backward(ctx, d_hidden, d_logits, hidden, saved, scratch);
}

}  // namespace loraine
