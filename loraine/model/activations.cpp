// The memory of a pass: what blocks keep, scratch, the cache of keys and values.
#include <algorithm>

#include "loraine/adapters/embedding_lora.h"
#include "loraine/kernels/attention/attention.h"
#include "loraine/model/decoder.h"

namespace loraine {
namespace {

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

}  // namespace loraine
