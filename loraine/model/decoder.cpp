// embed → block × L → norm, and the way back.
#include "loraine/model/decoder.h"

#include <algorithm>

#include "loraine/adapters/embedding_lora.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/rms_norm.h"
#include "loraine/kernels/training/dense_gradients.h"
#include "loraine/kernels/training/noise.h"
#include "loraine/model/block.h"

namespace loraine {
namespace {

constexpr uint64_t kEmbeddingNoise = uint64_t{1} << 40;  // a place of its own beside the sites of dropout

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

}  // namespace

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

}  // namespace loraine
