// embed → layer × L → norm, and the way back.
#include "loraine/model/decoder.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "loraine/adapters/embedding_lora.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/rows/scaled.h"
#include "loraine/kernels/training/dense_gradients.h"
#include "loraine/kernels/training/noise.h"
#include "loraine/model/layer.h"

namespace loraine {
namespace {

// First layer with something trained: the backward stops there. -1: the embedding is trained too.
int64_t first_trained_layer(const Model& model, const AdapterSet& set) {
  const bool rows = std::ranges::any_of(set.token_rows, [](const TokenRows& t) { return t.of_embedding && t.rows.gradient.data; });
  if (rows || set.embedding || (set.dense && set.dense->embedding.gradient.data) || trains(set, *model.embedding_norm)) return -1;
  for (size_t layer = 0; layer < model.layers.size(); ++layer)
    if (trains(set, *model.layers[layer])) return static_cast<int64_t>(layer);
  return model.config.num_hidden_layers;
}

void check_shared_rows(const Model& model, const Batch& batch) {
  for (const Sequence& s : batch.sequences)
    if (s.parent >= 0 && std::max(s.kv_length, batch.sequences[static_cast<size_t>(s.parent)].kv_length) > shares_up_to(model))
      throw Error(ErrorKind::internal, "a sequence shares rows that its model cannot share");
}

// The batch's tokens, but for those that stand for what is no text; `room` holds them where there are such.
std::span<const int32_t> embedded_ids(const Step& s, std::vector<int32_t>& room) {
  if (s.model.config.placeholder_ids.empty()) return s.batch.tokens;
  room = s.batch.tokens;
  for (const int32_t placeholder : s.model.config.placeholder_ids) std::ranges::replace(room, placeholder, s.model.config.placeholder_as);
  return room;
}

// x [T, C] F32 = embedding(tokens) + LoRA on it
void embed(const Step& s, const Tensor& x) {
  std::vector<int32_t> room;
  const std::span<const int32_t> ids = embedded_ids(s, room);
  const auto tokens = [&](int64_t first, int64_t count) { return ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count)); };
  for_each_dense(s.batch, s.pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    const Tensor& table = set && set->embedding.value.data ? set->embedding.value : s.model.embedding;
    embedding(s.ctx, x.row_range(first, count), table, tokens(first, count));
  });
  for (const AdapterRows& range : s.batch.adapter_rows)
    if (const auto& lora = s.pass.adapters.at(static_cast<size_t>(range.set))->embedding)
      lora->forward(s.ctx, x.row_range(range.start, range.length), tokens(range.start, range.length), *s.pass.scratch);
  if (s.model.config.embedding_scale != 1) scale(s.ctx, x, x, s.model.config.embedding_scale);
  if (!*s.model.embedding_norm) return;
  const Tensor before = s.rows(s.pass.activations->embedded);
  copy_rows(before, x);
  norm_forward(s, *s.model.embedding_norm, x, s.pass.activations->embedded_norm, before);
}

// d_rows[i] += d_x of every row whose token is ids[i]
void token_row_gradients(const TokenRows& t, const Tensor& d_x, std::span<const int32_t> tokens) {
  std::unordered_map<int64_t, int64_t> place;
  for (size_t i = 0; i < t.ids.size(); ++i) place[t.ids[i]] = static_cast<int64_t>(i);
  for (int64_t row = 0; row < d_x.rows(); ++row) {
    const auto found = place.find(tokens[static_cast<size_t>(row)]);
    if (found == place.end()) continue;
    float* to = t.rows.gradient.f32() + found->second * d_x.cols();
    const float* from = d_x.f32() + row * d_x.row_stride;
    for (int64_t c = 0; c < d_x.cols(); ++c) to[c] += from[c];
  }
}

void embed_backward(const Step& s, AdapterSet& trained, const Tensor& d_x) {
  const Activations& all = *s.pass.activations;
  if (*s.model.embedding_norm) norm_backward(s, *s.model.embedding_norm, trained, d_x, d_x, s.rows(all.embedded), all.embedded_norm, false);
  if (s.model.config.embedding_scale != 1) scale(s.ctx, d_x, d_x, s.model.config.embedding_scale);
  std::vector<int32_t> room;
  const std::span<const int32_t> ids = embedded_ids(s, room);
  if (trained.dense && trained.dense->embedding.gradient.data) embedding_gradient(s.ctx, trained.dense->embedding.gradient, d_x, ids);
  for (const TokenRows& t : trained.token_rows)
    if (t.of_embedding && t.rows.gradient.data) token_row_gradients(t, d_x, ids);
  if (trained.embedding) trained.embedding->backward(s.ctx, d_x, ids, *s.pass.scratch);
}

}  // namespace

void embed_tokens(Context& ctx, const Model& model, const Batch& batch, Pass& pass) {
  const Activations& all = *pass.activations;
  check_shared_rows(model, batch);
  const Step s{ctx, model, batch, pass};
  const Tensor x = s.rows(all.layers[0][0].x), stream = all.stream.data ? s.rows(all.stream) : x;
  embed(s, stream);
  if (pass.training && pass.embedding_noise > 0) add_noise(ctx, stream, pass.embedding_noise, kEmbeddingNoise);
  if (x.dtype != stream.dtype) convert_rows(ctx, x, stream);
}

int64_t invoked_from(std::span<const int32_t> tokens, std::span<const int32_t> invocation) {
  if (invocation.empty()) return 0;
  const auto last = std::find_end(tokens.begin(), tokens.end(), invocation.begin(), invocation.end());
  return last - tokens.begin();
}

namespace {

// Of whole sequences: a copy of the batch whose adapters of aLoRA have the rows from their invocation on; nothing where there is none.
std::optional<Batch> only_invoked(const Batch& batch, const Pass& pass) {
  const auto invoked = [&](const AdapterRows& range) -> std::span<const int32_t> {
    return pass.adapters.at(static_cast<size_t>(range.set))->invocation;
  };
  if (pass.cache || std::ranges::all_of(batch.adapter_rows, [&](const AdapterRows& range) { return invoked(range).empty(); })) return {};
  Batch own = batch;
  own.adapter_rows.clear();
  for (const AdapterRows& range : batch.adapter_rows) {
    if (invoked(range).empty()) {
      own.adapter_rows.push_back(range);
      continue;
    }
    for (const Sequence& s : batch.sequences) {
      if (s.start < range.start || s.start >= range.start + range.length) continue;
      if (s.parent >= 0) throw Error(ErrorKind::internal, "a sequence of aLoRA shares rows");
      const int64_t from =
          invoked_from(std::span(batch.tokens).subspan(static_cast<size_t>(s.start), static_cast<size_t>(s.length)), invoked(range));
      if (from < s.length) own.adapter_rows.push_back({s.start + from, s.length - from, range.set});
    }
  }
  return own;
}

}  // namespace

void decoder_forward(Context& ctx, const Model& model, const Batch& given, Pass& pass) {
  Activations& all = *pass.activations;
  const std::optional<Batch> invoked = only_invoked(given, pass);
  const Batch& batch = invoked ? *invoked : given;
  const Step s{ctx, model, batch, pass};
  if (pass.balance) {
    pass.balance->sums.clear();
    pass.balance->adding = true;
  }
  embed_tokens(ctx, model, batch, pass);
  for (size_t layer = 0; layer < model.layers.size(); ++layer) {
    const bool last = layer + 1 == model.layers.size();
    layer_forward(ctx, model, batch, pass, static_cast<int64_t>(layer), s.rows(last ? all.x_last : all.layers[layer + 1][0].x));
    if (!model.read_once) continue;
    const Parts parts = model.layers[layer]->parts();
    for (const Site* site : parts.sites)
      for (const WeightPart& part : site->weight.parts) model.release(part.weight, part.owned);
    for (const ExpertWeights* experts : parts.experts)
      for (const ExpertStack& stack : experts->stacks)
        for (const WeightPart& part : stack.parts) model.release(part.weight, part.owned);
  }
  if (pass.balance) pass.balance->adding = false;
  norm_forward(s, *model.final_norm, s.rows(all.hidden), all.last_norm, s.rows(all.x_last));
}

void decoder_backward(Context& ctx, const Model& model, const Batch& given, Pass& pass, AdapterSet& trained, const Tensor& d_hidden) {
  const Activations& all = *pass.activations;
  const std::optional<Batch> invoked = only_invoked(given, pass);
  const Batch& batch = invoked ? *invoked : given;
  const Step s{ctx, model, batch, pass};
  const int64_t first = first_trained_layer(model, trained);
  const bool below = first < model.config.num_hidden_layers;
  norm_backward(s, *model.final_norm, trained, below ? d_hidden : Tensor(), d_hidden, s.rows(all.x_last), all.last_norm, false);
  if (!below) return;
  for (int64_t layer = model.config.num_hidden_layers - 1; layer >= std::max<int64_t>(first, 0); --layer) {
    layer_again(ctx, model, batch, pass, layer);
    layer_backward(ctx, model, batch, pass, layer, trained, d_hidden, layer == first);
  }
  if (first < 0) embed_backward(s, trained, d_hidden);
}

}  // namespace loraine
