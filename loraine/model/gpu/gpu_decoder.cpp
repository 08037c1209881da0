// embed → layer × L → norm → loss, and the way back. Steps that the CPU's walk takes too are named as there (model/layer, model/mixers).
#include "loraine/model/gpu/gpu_decoder.h"

#include <algorithm>
#include <cstring>

#include "loraine/kernels/activations/activations_cuda.h"
#include "loraine/kernels/norms/norms_cuda.h"
#include "loraine/kernels/rows/scaled_cuda.h"
#include "loraine/kernels/training/noise.h"

namespace loraine {

namespace {

Tensor q_of(const AttentionConfig& c, const Tensor& qkv) { return qkv.col_range(0, c.q_size()); }
Tensor k_of(const AttentionConfig& c, const Tensor& qkv) { return qkv.col_range(c.q_size(), c.kv_size()); }
Tensor v_of(const AttentionConfig& c, const Tensor& qkv) { return qkv.col_range(c.q_size() + c.kv_size(), c.kv_size()); }

// Columns behind those of t, which it was planned with.
Tensor right_of(const Tensor& t, int64_t n) { return t.col_range(t.cols(), n); }
Tensor with_right(const Tensor& t, int64_t n) { return t.col_range(0, t.cols() + n); }

AttentionShape shape_of(const AttentionConfig& c) {
  return {.heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .window = c.window,
          .scale = c.scale,
          .softcap = c.softcap,
          .chunk = c.chunk};
}

}  // namespace

void GpuDecoder::thin(ProductForm form, const Tensor& y, const Tensor& x, const Tensor& w, float alpha, bool accumulate) {
  thin_product_cuda(stream_, form, y, x, w, alpha, accumulate, partial_);
}

Tensor GpuDecoder::weight_of(const GpuSite& site) {
  if (site.packed.empty()) return site.weight;
  const Tensor out(unpacked_.data, model_.type, {site.weight.rows(), site.weight.cols()});
  for (const GpuPackedPart& part : site.packed) unpack(stream_, out.row_range(part.row, part.weight.rows()), part);
  return out;
}

bool GpuDecoder::runs_dora(const GpuSite& site) const {
  return std::ranges::any_of(adapters_, [&](const GpuAdapterRows& rows) {
    const GpuLora* lora = rows.adapter->at(site.index);
    return lora && lora->dora();
  });
}

// y = W x + bias + LoRA, or y += that (not with DoRA); columns [T, R] take A x.
void GpuDecoder::linear(const Tensor& y, const Tensor& x, const GpuSite& site, const Tensor& columns, bool accumulate) {
  if (takes_joined(site)) {
    adapter_columns(columns, x, site);
    gemm_->multiply(stream_, ProductForm::nt, y, with_right(x, site.ranks()), site.joined.row_range(0, site.weight.rows()), accumulate);
    if (site.bias) add_bias_cuda(stream_, y, site.bias);
    return;
  }
  const Tensor w = weight_of(site);
  gemm_->multiply(stream_, ProductForm::nt, y, x, w, accumulate);
  const bool bias_last = runs_dora(site);  // magnitudes leave it out
  if (site.bias && !bias_last) add_bias_cuda(stream_, y, site.bias);
  adapter_columns(columns, x, site);
  for (const auto& [start, length, adapter] : adapters_) {
    const GpuLora* lora = adapter->at(site.index);
    if (!lora) continue;
    const Tensor rows = y.row_range(start, length), of_rows = columns.row_range(start, length);
    if (lora->dora()) dora_forward(rows, start, w, *lora, of_rows);
    else add_low_rank(rows, of_rows, *lora, true);
  }
  if (site.bias && bias_last) add_bias_cuda(stream_, y, site.bias);
}

// y (+)= s B columns
void GpuDecoder::add_low_rank(const Tensor& y, const Tensor& columns, const GpuLora& lora, bool accumulate) {
  for (const GpuLoraPart& part : lora.parts)
    thin(ProductForm::nt, y.col_range(part.offset, part.out), columns.col_range(part.rank_offset, part.r), part.b, part.scale, accumulate);
}

// The gradient of B, added up, and s · dY B, that of the columns.
Tensor GpuDecoder::low_rank_backward(const Tensor& d_y, const Tensor& columns, const GpuLora& lora) {
  const Tensor g = now(adapter_g_).col_range(0, lora.rank());
  for (const GpuLoraPart& part : lora.parts) {
    const Tensor d_part = d_y.col_range(part.offset, part.out);
    thin(ProductForm::nn, g.col_range(part.rank_offset, part.r), d_part, part.b, part.scale, false);
    thin(ProductForm::tn, part.d_b, d_part, columns.col_range(part.rank_offset, part.r), part.scale, true);
  }
  return g;
}

// A x of each adapter, over its rows; of a joined site right of x too.
void GpuDecoder::adapter_columns(const Tensor& columns, const Tensor& x, const GpuSite& site) {
  for (const auto& [start, length, adapter] : adapters_) {
    const GpuLora* lora = adapter->at(site.index);
    if (!lora) continue;
    Tensor input = x.row_range(start, length);
    if (training_ && lora->dropout > 0) {
      input = adapter_x_.row_range(start, length).col_range(0, x.cols());
      dropout_cuda(stream_, input, x.row_range(start, length), lora->dropout, batch_.dropout(), lora->site);
    }
    if (!takes_joined(site)) {
      thin(ProductForm::nt, columns.row_range(start, length).col_range(0, lora->rank()), input, lora->a, 1, false);
      continue;
    }
    const Tensor right = right_of(x, site.ranks());
    gemm_->multiply(stream_, ProductForm::nt, right, input, site.a());
    if (columns.data != right.data) convert_rows_cuda(stream_, columns, right.col_range(0, columns.cols()));
  }
}

// d_x = d_y W + that of LoRA; without data nothing of it. The gradient of B is added up; what that of A takes is left beside it. x: with
// DoRA alone, whose gradients are all added up.
void GpuDecoder::linear_backward(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const GpuSite& site, const Tensor& columns) {
  const GpuLora* lora = shape_.trained->at(site.index);
  if (lora && lora->dora()) return dora_backward(d_x, d_y, x, weight_of(site), *lora, columns);
  const bool joined = takes_joined(site), dropped = lora && lora->dropout > 0 && training_;
  const int64_t ranks = joined ? site.ranks() : 0;
  if (joined) gemm_->multiply(stream_, ProductForm::nn, right_of(d_y, ranks), d_y, site.b());
  if (d_x.data) {
    const bool once = joined && !dropped;
    gemm_->multiply(stream_, ProductForm::nn, d_x, once ? with_right(d_y, ranks) : d_y,
                    once ? site.joined.col_range(0, site.weight.cols()) : weight_of(site));
  }
  if (!lora) return;
  if (joined)
    for (const GpuLoraPart& part : lora->parts)
      gemm_->multiply(stream_, ProductForm::tn, part.d_b, d_y.col_range(part.offset, part.out), columns.col_range(part.rank_offset, part.r),
                      true, part.scale);
  const Tensor g = joined ? right_of(d_y, ranks) : low_rank_backward(d_y, columns, *lora);
  if (!d_x.data || (joined && !dropped)) return;
  if (!dropped) return thin(ProductForm::nn, d_x, g, lora->a, 1, true);
  const Tensor t = now(adapter_x_).col_range(0, d_x.cols());
  if (joined) gemm_->multiply(stream_, ProductForm::nn, t, g, site.a());
  else thin(ProductForm::nn, t, g, lora->a, 1, false);
  dropout_cuda(stream_, t, t, lora->dropout, batch_.dropout(), lora->site);
  add_cuda(stream_, d_x, d_x, t);
}

// The gradient of A, behind linear_backward of the same d_y: of what that leaves beside it (s · d_y B) and of x.
void GpuDecoder::linear_backward_a(const Tensor& d_y, const Tensor& x, const GpuSite& site) {
  const GpuLora* lora = shape_.trained->at(site.index);
  if (!lora || lora->dora()) return;
  const bool joined = takes_joined(site);
  const Tensor g = joined ? right_of(d_y, lora->rank()) : now(adapter_g_).col_range(0, lora->rank());
  Tensor input = x;
  if (lora->dropout > 0 && training_) {
    input = now(adapter_x_).col_range(0, x.cols());
    dropout_cuda(stream_, input, x, lora->dropout, batch_.dropout(), lora->site);
  }
  if (joined) gemm_->multiply(stream_, ProductForm::tn, lora->d_a, g, input, true);
  else thin(ProductForm::tn, lora->d_a, g, input, 1, true);
}

// One row of a norm's statistics, [T].
Tensor GpuDecoder::statistic(const Tensor& statistics, int64_t which) const {
  return {static_cast<float*>(statistics.data) + which * statistics.row_stride, Dtype::F32, {batch_.rows()}};
}

void GpuDecoder::norm(const Tensor& y, const Tensor& statistics, const Tensor& x, const GpuNorm& norm) {
  const Tensor rstd = statistic(statistics, 0);
  if (norm.kind == NormKind::rms) return rms_norm_cuda(stream_, y, rstd, x, norm.weight, norm.eps, norm.offset);
  layer_norm_cuda(stream_, y, statistic(statistics, 1), rstd, x, norm.weight, norm.bias, norm.eps, norm.offset);
}
void GpuDecoder::norm_rebuild(const Tensor& y, const Tensor& x, const Tensor& statistics, const GpuNorm& norm) {
  const Tensor rstd = statistic(statistics, 0);
  if (norm.kind == NormKind::rms) return rms_norm_rebuild_cuda(stream_, y, x, rstd, norm.weight, norm.offset);
  layer_norm_rebuild_cuda(stream_, y, x, statistic(statistics, 1), rstd, norm.weight, norm.bias, norm.offset);
}
void GpuDecoder::norm_backward(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& statistics, const GpuNorm& norm,
                               bool accumulate, const Tensor& rounded, const Tensor& h) {
  const Tensor rstd = statistic(statistics, 0);
  if (norm.kind == NormKind::rms)
    return rms_norm_backward_cuda(stream_, d_x, d_y, x, rstd, norm.weight, accumulate, norm.offset, rounded, h);
  layer_norm_backward_cuda(stream_, d_x, d_y, x, statistic(statistics, 1), rstd, norm.weight, norm.offset, accumulate);
}

void GpuDecoder::norm_heads(const GpuBranch& branch, const Kept& kept) {
  if (!branch.head_norms.empty())
    head_norms_cuda(stream_, now(kept.inner), now(kept.before), head_statistics(branch, kept), branch.head_norms);
}
void GpuDecoder::norm_heads_backward(const GpuBranch& branch, const Kept& kept, const Tensor& d_qkv) {
  if (!branch.head_norms.empty())
    head_norms_backward_cuda(stream_, d_qkv, now(kept.before), head_statistics(branch, kept), branch.head_norms);
}
// [heads, T], of the rows of this batch
Tensor GpuDecoder::head_statistics(const GpuBranch& branch, const Kept& kept) const {
  return kept.head_rstd.row_range(0, branch.normed_heads()).col_range(0, batch_.rows());
}

void GpuDecoder::rotate(const GpuBranch& branch, const Tensor& qkv, float direction) {
  const AttentionConfig& c = *branch.attention;
  if (!c.rope) return;
  rope_cuda(stream_, qkv.col_range(0, c.q_size() + c.kv_size()), c.head_dim, batch_.positions(), branch.frequencies,
            static_cast<int64_t>(c.rope->frequencies.size()), c.rope->scale, direction, c.rope->layout, c.rope->first);
}

// Up to o.
void GpuDecoder::attention_inside(const GpuBranch& branch, const Kept& kept, const Tensor& h) {
  const AttentionConfig& c = *branch.attention;
  const Tensor qkv = now(kept.inner), o = now(kept.o);
  linear(qkv, h, branch.in, now(kept.in_columns));
  if (!c.norm_after_rope) norm_heads(branch, kept);
  rotate(branch, qkv, 1);
  if (c.norm_after_rope) norm_heads(branch, kept);
  Tensor k = k_of(c, qkv), v = v_of(c, qkv);
  if (kept.cache) {
    put_rows_cuda(stream_, kept.cache->k, k, batch_.cache_rows());
    put_rows_cuda(stream_, kept.cache->v, v, batch_.cache_rows());
    k = kept.cache->k, v = kept.cache->v;
  }
  attention_cuda(stream_, o, now(kept.lse), q_of(c, qkv), k, v, batch_.sequences(), shape_of(c));
}
void GpuDecoder::attention_forward(const GpuBranch& branch, const Kept& kept, const Tensor& y, const Tensor& h, bool accumulate) {
  attention_inside(branch, kept, h);
  linear(y, now(kept.o), branch.out, now(kept.out_columns), accumulate);
}
void GpuDecoder::attention_backward(const GpuBranch& branch, const Kept& kept, const Tensor& d_h, const Tensor& d_y, const Tensor& h) {
  const AttentionConfig& c = *branch.attention;
  const Tensor qkv = now(kept.inner), o = now(kept.o), d_o = now(d_o_).col_range(0, c.q_size()),
               d_qkv = now(d_inner_).col_range(0, qkv.cols());
  if (shape_.shares(branch)) {
    attention_inside(branch, kept, h);
    adapter_columns(now(kept.out_columns), o, branch.out);
  }
  linear_backward(d_o, d_y, o, branch.out, now(kept.out_columns));
  linear_backward_a(d_y, o, branch.out);
  loraine::attention_backward_cuda(stream_, q_of(c, d_qkv), k_of(c, d_qkv), v_of(c, d_qkv), d_o, o, now(kept.lse), q_of(c, qkv),
                                   k_of(c, qkv), v_of(c, qkv), batch_.sequences(), shape_of(c), now(delta_).col_range(0, c.heads), nullptr);
  if (c.norm_after_rope) norm_heads_backward(branch, kept, d_qkv);
  rotate(branch, d_qkv, -1);
  if (!c.norm_after_rope) norm_heads_backward(branch, kept, d_qkv);
  linear_backward(d_h, d_qkv, h, branch.in, now(kept.in_columns));
}

void GpuDecoder::activate(const GpuBranch& branch, const Tensor& f, const Tensor& inner) {
  const ActivationShape shape{branch.mlp->activation};
  if (branch.mlp->gated) gated_activate_cuda(stream_, f, inner, shape);
  else activate_cuda(stream_, f, inner, shape);
}

// Gate and up, and f, which it gives.
Tensor GpuDecoder::mlp_inside(const GpuBranch& branch, const Kept& kept, const Tensor& h) {
  const Tensor inner = now(kept.inner), f = now(f_).col_range(0, branch.out.weight.cols());
  linear(inner, h, branch.in, now(kept.in_columns));
  activate(branch, f, inner);
  return f;
}
void GpuDecoder::mlp_forward(const GpuBranch& branch, const Kept& kept, const Tensor& y, const Tensor& h, bool accumulate) {
  const Tensor f = mlp_inside(branch, kept, h);
  linear(y, f, branch.out, now(kept.out_columns), accumulate);
}
// What is kept becomes its gradient.
void GpuDecoder::mlp_backward(const GpuBranch& branch, const Kept& kept, const Tensor& d_h, const Tensor& d_y, const Tensor& h) {
  const int64_t width = branch.out.weight.cols();
  const Tensor inner = now(kept.inner), f = now(f_).col_range(0, width), d_f = now(d_f_).col_range(0, width);
  if (shape_.shares(branch)) {
    mlp_inside(branch, kept, h);
    adapter_columns(now(kept.out_columns), f, branch.out);
  } else if (!branch.mlp->gated || runs_dora(branch.out)) {
    activate(branch, f, inner);
  }
  linear_backward(d_f, d_y, f, branch.out, now(kept.out_columns));
  const ActivationShape shape{branch.mlp->activation};
  if (branch.mlp->gated) gated_activate_backward_cuda(stream_, inner, d_f, inner, shape, shape_.shares(branch) ? Tensor() : f);
  else activate_backward_cuda(stream_, inner, d_f, inner, shape);
  linear_backward_a(d_y, f, branch.out);
  linear_backward(d_h, inner, h, branch.in, now(kept.in_columns));
}

void GpuDecoder::forward(const Context& ctx, const Batch& batch, bool training, float embedding_noise) {
  training_ = training, noisy_ = training && embedding_noise > 0;
  batch_.upload(stream_, batch, {ctx.seed, ctx.step, embedding_noise});
  adapters_ = {{0, batch.rows(), shape_.trained}};
  run_layers();
}

void GpuDecoder::forward(const Batch& batch, std::span<const GpuAdapterRows> adapters) {
  if (shape_.trained) throw Error(ErrorKind::internal, "a decoder with a backward on the GPU runs with the adapter that it trains alone");
  batch_.upload(stream_, batch, {});
  adapters_.assign(adapters.begin(), adapters.end());
  run_layers();
}

// What its first product reads: of a joined site with room for more columns.
Tensor GpuDecoder::input_of(const GpuBranch& branch, const Tensor& x) {
  const Tensor h = now(h_);
  if (branch.before) return h;
  if (!takes_joined(branch.in)) return x;
  convert_rows_cuda(stream_, h, x);
  return h;
}

void GpuDecoder::run_layers() {
  for (const GpuAdapterRows& rows : adapters_) refresh(*rows.adapter);
  const bool rounded = model_.type != Dtype::F32;
  const Tensor first = now(kept_.front().front().x), sum = rounded ? now(sum_) : first, h = now(h_), y = now(y_);
  embedding_cuda(stream_, sum, model_.embedding, batch_.tokens());
  if (model_.config.embedding_scale != 1) scale_cuda(stream_, sum, sum, model_.config.embedding_scale);
  if (noisy_) add_noise_cuda(stream_, sum, batch_.dropout(), kEmbeddingNoise);
  bool pending = rounded;  // sum has what the next x, its rounding, has not yet
  const auto enter = [&](const Tensor& normed, const Tensor& statistics, const Tensor& x, const GpuNorm& by) {
    if (pending && by.kind == NormKind::rms)
      add_rms_norm_cuda(stream_, normed, statistic(statistics, 0), sum, x, {}, by.weight, by.eps, by.offset);
    else {
      if (pending) convert_rows_cuda(stream_, x, sum);
      if (by) norm(normed, statistics, x, by);
    }
    pending = false;
  };
  for (size_t layer = 0; layer < kept_.size(); ++layer)
    for (size_t b = 0; b < kept_[layer].size(); ++b) {
      const GpuBranch& branch = model_.layers[layer][b];
      const Kept& kept = kept_[layer][b];
      const bool ends = b + 1 == kept_[layer].size();
      const Tensor x = now(kept.x), next = now(!ends                       ? kept_[layer][b + 1].sum
                                               : layer + 1 == kept_.size() ? x_last_
                                                                           : kept_[layer + 1].front().x);
      enter(h, kept.statistics, x, branch.before);
      const Tensor read = input_of(branch, x);
      const bool into_sum = rounded && !branch.after && branch.scale == 1 && !runs_dora(branch.out);  // its product is added to the stream
      if (branch.attention) attention_forward(branch, kept, into_sum ? sum : y, read, into_sum);
      else mlp_forward(branch, kept, into_sum ? sum : y, read, into_sum);
      if (branch.after) {
        convert_rows_cuda(stream_, now(kept.given), y);
        norm(y, kept.after, now(kept.given), branch.after);
      }
      if (branch.scale != 1) scale_cuda(stream_, y, y, branch.scale);
      if (!into_sum) add_cuda(stream_, rounded ? sum : next, rounded ? sum : now(kept.sum), y);
      pending = rounded && (ends || !model_.layers[layer][b + 1].beside);
    }
  enter(now(hidden_), last_statistics_, now(x_last_), model_.final_norm);
}

void GpuDecoder::head_logits(const Tensor& logits, const Tensor& x) {
  gemm_->multiply(stream_, ProductForm::nt, logits, x, weight_of(model_.head));
  if (model_.head.bias) add_bias_cuda(stream_, logits, model_.head.bias);
  if (model_.config.logit_scale != 1) scale_cuda(stream_, logits, logits, model_.config.logit_scale);
  if (model_.config.logit_softcap != 0) soft_cap_cuda(stream_, logits, logits, model_.config.logit_softcap);
}

// Their numbers on their way to asked_rows_, as many as logits are there at a time.
void GpuDecoder::ask_rows(std::span<const int64_t> rows) {
  stream_.synchronise();  // the staging memory is free
  batch_.all_done();
  if (logit_staging_.bytes() == 0) {
    const size_t of_states = static_cast<size_t>(logits_.rows() * model_.config.hidden_size) * sizeof(float);
    logit_staging_ =
        GpuMemory(std::max({logits_.bytes(), of_states, static_cast<size_t>(logits_.rows()) * sizeof(int64_t)}), GpuMemoryKind::pinned);
  }
  std::memcpy(logit_staging_.data(), rows.data(), rows.size_bytes());
  stream_.copy(asked_rows_, logit_staging_.data(), rows.size_bytes());
}

void GpuDecoder::states(const Tensor& states, std::span<const int64_t> rows) {
  const int64_t most = loss_x_.rows(), C = states.cols();
  for (int64_t first = 0; first < states.rows(); first += most) {
    const int64_t count = std::min(most, states.rows() - first);
    const Tensor x = loss_x_.row_range(0, count);
    ask_rows(rows.subspan(static_cast<size_t>(first), static_cast<size_t>(count)));
    gather_rows_cuda(stream_, x, hidden_, asked_rows_);
    stream_.copy(logit_staging_.data(), x.data, x.bytes());
    stream_.synchronise();
    for (int64_t t = 0; t < count; ++t)
      convert(states.f32() + (first + t) * states.row_stride, Dtype::F32,
              static_cast<const char*>(logit_staging_.data()) + static_cast<size_t>(t * C) * size_of(x.dtype), x.dtype, C);
  }
}

void GpuDecoder::put_gradients(const Tensor& d, std::span<const int64_t> rows) {
  const int64_t most = d_loss_x_.rows(), C = d.cols();
  const Tensor all = now(d_hidden_);
  stream_.fill(all.data, 0, all.bytes());
  for (int64_t first = 0; first < d.rows(); first += most) {
    const int64_t count = std::min(most, d.rows() - first);
    const Tensor d_x = d_loss_x_.row_range(0, count);
    ask_rows(rows.subspan(static_cast<size_t>(first), static_cast<size_t>(count)));
    stream_.synchronise();
    for (int64_t t = 0; t < count; ++t)
      std::memcpy(static_cast<float*>(logit_staging_.data()) + t * C, d.f32() + (first + t) * d.row_stride,
                  static_cast<size_t>(C) * sizeof(float));
    stream_.copy(d_x.data, logit_staging_.data(), d_x.bytes());
    put_rows_cuda(stream_, d_hidden_, d_x, asked_rows_);
  }
}

void GpuDecoder::scale_gradients(std::span<const float> of_rows) {
  stream_.synchronise();  // the staging memory is free
  batch_.all_done();
  std::memcpy(loss_staging_.data(), of_rows.data(), of_rows.size_bytes());
  stream_.copy(row_factors_, loss_staging_.data(), of_rows.size_bytes());
  scale_rows_cuda(stream_, now(d_hidden_), row_factors_);
}

void GpuDecoder::logits(const Tensor& logits, std::span<const int64_t> rows) {
  const auto n = static_cast<int64_t>(rows.size());
  if (n > loss_x_.rows()) throw Error(ErrorKind::internal, "logits of more rows than the GPU's memory was planned for");
  const Tensor x = loss_x_.row_range(0, n), out = logits_.row_range(0, n);
  ask_rows(rows);
  gather_rows_cuda(stream_, x, hidden_, asked_rows_);
  head_logits(out, x);
  stream_.copy(logit_staging_.data(), out.data, out.bytes());
  stream_.synchronise();
  std::memcpy(logits.f32(), logit_staging_.data(), out.bytes());
}

void GpuDecoder::run_losses(const TokenLoss& token, float grad_scale, bool plain) {
  const auto n = static_cast<int64_t>(batch_.labelled().size());
  const int64_t V = model_.config.vocab_size, most = loss_x_.rows(), all = shape_.rows;
  if (grad_scale != 0) {
    const Tensor d = now(d_hidden_);
    stream_.fill(d.data, 0, d.bytes());
  }
  for (int64_t first = 0; first < n; first += most) {
    const int64_t count = std::min(most, n - first);
    const int64_t* rows = batch_.labelled_rows() + first;
    const int32_t* labels = batch_.labels() + first;
    const Tensor x = loss_x_.row_range(0, count), logits = logits_.row_range(0, count), d_logits = d_logits_.row_range(0, count);
    LossState* states = states_ + first;
    gather_rows_cuda(stream_, x, hidden_, rows);
    head_logits(logits, x);
    add_logits_cuda(stream_, states, logits, labels, 0);
    losses_cuda(stream_, loss_values_ + first, correct_ + first, states, labels, count, V, token);
    if (plain) losses_cuda(stream_, loss_values_ + all + first, nullptr, states, labels, count, V, {});
    if (grad_scale == 0) continue;
    logit_gradient_cuda(stream_, d_logits, logits, states, labels, 0, V, grad_scale, token);
    if (model_.config.logit_softcap != 0) soft_cap_backward_cuda(stream_, d_logits, logits, model_.config.logit_softcap);
    if (model_.config.logit_scale != 1) scale_cuda(stream_, d_logits, d_logits, model_.config.logit_scale);
    const Tensor d_x = d_loss_x_.row_range(0, count);
    gemm_->multiply(stream_, ProductForm::nn, d_x, d_logits, weight_of(model_.head));
    put_rows_cuda(stream_, d_hidden_, d_x, rows);
  }
}

void GpuDecoder::losses_later(const TokenLoss& token, float grad_scale, double divisor) {
  run_losses(token, grad_scale, false);
  const auto n = static_cast<int64_t>(batch_.labelled().size());
  later_.push_back({n, divisor});
  if (later_.size() > later_staging_.size() && !stream_.dry())
    later_staging_.emplace_back(static_cast<size_t>(shape_.rows) * sizeof(double), GpuMemoryKind::pinned);
  stream_.copy(stream_.dry() ? nullptr : later_staging_[later_.size() - 1].data(), loss_values_, static_cast<size_t>(n) * sizeof(double));
}

double GpuDecoder::take_losses() {
  batch_.all_done();
  double all = 0;
  for (size_t i = 0; i < later_.size() && !stream_.dry(); ++i) {
    const auto* values = static_cast<const double*>(later_staging_[i].data());
    double sum = 0;
    for (int64_t row = 0; row < later_[i].rows; ++row) sum += values[row];
    all += sum / later_[i].divisor;
  }
  later_.clear();
  return all;
}

GpuLosses GpuDecoder::losses(const TokenLoss& token, float grad_scale, bool plain, bool logit_means) {
  run_losses(token, grad_scale, plain);
  const auto n = static_cast<int64_t>(batch_.labelled().size()), all = shape_.rows;
  const auto size = static_cast<size_t>(n);
  auto* values = static_cast<double*>(loss_staging_.data());
  auto* states = reinterpret_cast<LossState*>(values + 2 * all);
  auto* correct = reinterpret_cast<uint8_t*>(states + all);
  stream_.copy(values, loss_values_, size * sizeof(double));
  if (plain) stream_.copy(values + all, loss_values_ + all, size * sizeof(double));
  if (logit_means) stream_.copy(states, states_, size * sizeof(LossState));
  stream_.copy(correct, correct_, size);
  stream_.synchronise();
  batch_.all_done();
  if (stream_.dry()) return {std::vector<double>(size), std::vector<double>(plain ? size : 0), {}, std::vector<uint8_t>(size)};
  GpuLosses out{{values, values + n}, {}, {}, {correct, correct + n}};
  const auto vocabulary = static_cast<double>(model_.config.vocab_size);
  for (int64_t i = 0; logit_means && i < n; ++i) out.logit_means.push_back(static_cast<double>(states[i].all) / vocabulary);
  if (plain) out.plain.assign(values + all, values + all + n);
  return out;
}

// The backward stops at the first layer with an adapter.
int64_t GpuDecoder::first_trained_layer() const {
  for (size_t layer = 0; layer < model_.layers.size(); ++layer)
    for (const GpuBranch& branch : model_.layers[layer])
      if (shape_.trained->at(branch.in.index) || shape_.trained->at(branch.out.index)) return static_cast<int64_t>(layer);
  return static_cast<int64_t>(model_.layers.size());
}

void GpuDecoder::backward() {
  const Tensor d = now(d_hidden_), h = now(h_), d_h = now(d_h_), d_given = now(y_);
  const int64_t first = first_trained_layer();
  const Tensor of_y = now(d_y_);
  norm_backward(d, d, now(x_last_), last_statistics_, model_.final_norm, false, of_y);
  bool there = model_.final_norm.kind == NormKind::rms;  // d_y_ has what d has
  Tensor d_sum = d;                                      // of the sum after branches that read the same x
  for (auto layer = static_cast<int64_t>(kept_.size()) - 1; layer >= first; --layer) {
    const std::vector<GpuBranch>& branches = model_.layers[static_cast<size_t>(layer)];
    for (size_t b = branches.size(); b-- > 0;) {
      const GpuBranch& branch = branches[b];
      const Kept& kept = kept_[static_cast<size_t>(layer)][b];
      const Tensor x = now(kept.x);
      if (b + 1 == branches.size() || !branches[b + 1].beside) {
        d_sum = d;
        if (branch.beside) {  // others still need it, when d has this one's part already
          d_sum = now(d_group_);
          convert_rows_cuda(stream_, d_sum, d);
        }
      }
      const bool reads_input = kept.x.data == kept_[static_cast<size_t>(layer)][0].x.data;
      const bool below = layer > first || !reads_input;                                               // whether something is trained there
      const bool h_later = below && branch.before.kind == NormKind::rms && !shape_.shares(branch) &&  // made by the norm's backward
                           !runs_dora(branch.in);
      if (branch.before && !h_later) norm_rebuild(h, x, kept.statistics, branch.before);
      Tensor d_y = d_sum;
      if (branch.scale != 1) scale_cuda(stream_, d_given, d_y, branch.scale), d_y = d_given;
      if (branch.after) norm_backward(d_given, d_y, now(kept.given), kept.after, branch.after, false), d_y = d_given;
      if (!there || d_y.data != d.data) convert_rows_cuda(stream_, of_y, d_y);
      there = false;
      const Tensor d_in = below ? d_h : Tensor(), read = shape_.shares(branch) ? input_of(branch, x) : branch.before ? h : x;
      const Tensor d_inner = branch.mlp ? now(kept.inner) : now(d_inner_).col_range(0, branch.in.weight.rows());
      if (branch.attention) attention_backward(branch, kept, d_in, of_y, read);
      else mlp_backward(branch, kept, d_in, of_y, read);
      if (!h_later) linear_backward_a(d_inner, read, branch.in);
      if (!below) continue;
      if (branch.before) {
        norm_backward(d, d_h, x, kept.statistics, branch.before, true, of_y, h_later ? h : Tensor());
        there = branch.before.kind == NormKind::rms;
      } else {
        add_cuda(stream_, d, d, d_h);
      }
      if (h_later) linear_backward_a(d_inner, h, branch.in);
    }
  }
}

}  // namespace loraine
