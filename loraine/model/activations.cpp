// The memory of a pass: what layers keep, scratch, what decoding carries.
#include <algorithm>
#include <functional>

#include "loraine/adapters/embedding_lora.h"
#include "loraine/adapters/expert_lora.h"
#include "loraine/model/layer.h"

namespace loraine {
namespace {

int64_t saved_width(const std::vector<const AdapterSet*>& adapters, int64_t site) {
  int64_t width = 0;
  for (const AdapterSet* set : adapters)
    if (const Adapter* adapter = set->at(site)) width = std::max(width, adapter->saved_width());
  return width;
}

// Columns per row that adapters take at the site at most, in the activations' type.
int64_t adapter_width(const std::vector<const AdapterSet*>& adapters, int64_t site) {
  int64_t width = 0;
  for (const AdapterSet* set : adapters)
    if (const Adapter* adapter = set->at(site)) width = std::max(width, adapter->saved_width() + adapter->scratch_width());
  return width;
}

int64_t expert_rank(const std::vector<const AdapterSet*>& adapters, int64_t number) {
  int64_t rank = 0;
  for (const AdapterSet* set : adapters)
    if (const ExpertLora* lora = set->expert(number)) rank = std::max(rank, lora->shape().r);
  return rank;
}

// Lays out one thing after the other at the same place, as large as the largest.
void take_in_turn(Arena& arena, size_t things, const std::function<void(size_t)>& take) {
  const size_t start = arena.mark();
  size_t end = start;
  for (size_t i = 0; i < things; ++i) {
    arena.release(start);
    take(i);
    end = std::max(end, arena.used());
  }
  arena.release(start);
  if (end > start) arena.take(Dtype::U8, {static_cast<int64_t>(end - start)});
}

// Lays out the activations of all layers; whatever a layer does not need to keep lies where that of the others lies.
class Plan {
 public:
  Plan(const Model& model, int64_t rows, const std::vector<const AdapterSet*>& adapters, Arena& arena, Activations& all)
      : model_(model),
        rows_(rows),
        width_(model.config.hidden_size),
        type_(model.activation_dtype()),
        adapters_(adapters),
        arena_(arena),
        all_(all) {}

  void layers() {
    size_t most = 0;
    for (const auto& layer : model_.layers) {
      all_.layers.emplace_back(layer->branches.size());
      most = std::max(most, layer->branches.size());
    }
    all_.columns.resize(all_.training ? model_.sites().size() : 1);
    if (all_.training) all_.expert_columns.resize(model_.experts().size());
    if (!all_.training) {
      int64_t widest = 0;
      for (int64_t site = 0; site < static_cast<int64_t>(model_.sites().size()); ++site)
        widest = std::max(widest, saved_width(adapters_, site));
      all_.columns[0] = arena_.take(type_, {rows_, widest});
    }
    for (size_t b = 0; b < most; ++b) {
      streams(b);
      const std::vector<size_t> with = layers_with(b);
      std::vector<size_t> in_turn;
      for (const size_t layer : with) {
        if (!all_.training || runs_again(all_, branch(layer, b))) in_turn.push_back(layer);
        else insides(layer, b);
      }
      take_in_turn(arena_, in_turn.size(), [&](size_t i) { insides(in_turn[i], b); });
      for (const size_t layer : with) {
        saved(layer, b).lasting = branch(layer, b).mixer->plan_lasting(arena_, rows_, type_, all_.training);
        outputs(layer, b);
      }
    }
  }

 private:
  Branch& branch(size_t layer, size_t b) const { return model_.layers[layer]->branches[b]; }
  BranchActivations& saved(size_t layer, size_t b) const { return all_.layers[layer][b]; }
  std::vector<size_t> layers_with(size_t b) const {
    std::vector<size_t> with;
    for (size_t layer = 0; layer < all_.layers.size(); ++layer)
      if (b < all_.layers[layer].size()) with.push_back(layer);
    return with;
  }
  Tensor rows_of_stream() const { return arena_.take(type_, {rows_, width_}); }

  // What the branches read, and their norms' statistics.
  void streams(size_t b) {
    Tensor shared, statistics[2], given;
    const bool block = all_.recompute == Recompute::block, rounded = type_ != Dtype::F32;
    const auto one = [&](Tensor& of_all, bool own, const auto& take) {
      if (own) return take();
      if (!of_all.data && of_all.rank == 0) of_all = take();
      return of_all;
    };
    for (const size_t layer : layers_with(b)) {
      BranchActivations& a = saved(layer, b);
      const Branch& here = branch(layer, b);
      const bool own = all_.training && (b == 0 || rounded || !block) && !here.beside;
      a.sum = one(shared, own, [&] { return rows_of_stream(); });
      a.x = here.beside ? saved(layer, b - 1).x : a.sum;
      const auto take_statistics = [&] { return arena_.take(Dtype::F32, {2, rows_}); };
      if (here.before) a.before = one(statistics[0], all_.training, take_statistics);
      if (!here.after) continue;
      a.after = one(statistics[1], all_.training, take_statistics);
      a.given = one(given, all_.training && !block, [&] { return rows_of_stream(); });
    }
  }
  // What a recomputation gives once more.
  void insides(size_t layer, size_t b) {
    saved(layer, b).kept = branch(layer, b).mixer->plan_kept(arena_, rows_, type_);
    if (all_.training) columns(layer, b, false);
  }
  void outputs(size_t layer, size_t b) {
    if (all_.training) columns(layer, b, true);
  }
  void columns(size_t layer, size_t b, bool of_output) {
    const Mixer& mixer = *branch(layer, b).mixer;
    const Parts parts = branch(layer, b).mixer->parts();
    for (const Site* site : parts.sites)
      if (site->gives_output == of_output)
        all_.columns[static_cast<size_t>(site->index)] = arena_.take(type_, {rows_, saved_width(adapters_, site->index)});
    for (const ExpertWeights* experts : parts.experts)
      if (const int64_t rank = expert_rank(adapters_, experts->index); rank > 0 && experts->gives_output == of_output)
        all_.expert_columns[static_cast<size_t>(experts->index)] = arena_.take(type_, {rows_ * mixer.experts_per_row(), rank});
  }

  const Model& model_;
  int64_t rows_, width_;
  Dtype type_;
  const std::vector<const AdapterSet*>& adapters_;
  Arena& arena_;
  Activations& all_;
};

std::vector<std::vector<std::vector<Tensor>>> plan_cache(const Model& model, Arena& arena, int64_t rows, int64_t sequences) {
  std::vector<std::vector<std::vector<Tensor>>> layers;
  for (const auto& layer : model.layers) {
    std::vector<std::vector<Tensor>>& here = layers.emplace_back();
    for (const Branch& branch : layer->branches)
      here.push_back(branch.mixer->plan_carried(arena, rows, sequences, model.activation_dtype()));
  }
  return layers;
}

}  // namespace

size_t kv_cache_bytes(const Model& model, int64_t capacity, int64_t sequences) {
  Arena dry;
  plan_cache(model, dry, capacity, sequences);
  return dry.peak();
}

KvCache::KvCache(const Model& model, int64_t rows, int64_t most_sequences)
    : capacity(rows), sequences(most_sequences), memory(kv_cache_bytes(model, rows, most_sequences)) {
  layers = plan_cache(model, memory, rows, sequences);
}

std::vector<Tensor> KvCache::rows() const {
  std::vector<Tensor> all;
  for (const auto& layer : layers)
    for (const auto& branch : layer)
      for (const Tensor& t : branch)
        if (t.rows() == capacity) all.push_back(t);
  return all;
}

bool KvCache::has_states() const {
  size_t tensors = 0;
  for (const auto& layer : layers)
    for (const auto& branch : layer) tensors += branch.size();
  return rows().size() < tensors;
}

Activations plan_activations(const Model& model, int64_t rows, bool training, const std::vector<const AdapterSet*>& adapters, Arena& arena,
                             Recompute recompute) {
  const int64_t width = model.config.hidden_size;
  const Dtype type = model.activation_dtype();
  Activations all;
  all.training = training;
  all.recompute = training ? recompute : Recompute::none;
  if (type != Dtype::F32) all.stream = arena.take(Dtype::F32, {rows, width});
  Plan(model, rows, adapters, arena, all).layers();
  if (*model.embedding_norm) {
    all.embedded = arena.take(Dtype::F32, {rows, width});
    all.embedded_norm = arena.take(Dtype::F32, {2, rows});
  }
  all.x_last = arena.take(type, {rows, width});
  all.last_norm = arena.take(Dtype::F32, {2, rows});
  all.hidden = arena.take(type, {rows, width});
  return all;
}

// The widest moment: a branch's input and output or their gradients, and what its mixer takes.
size_t scratch_bytes(const Model& model, int64_t rows, bool training, const std::vector<const AdapterSet*>& adapters,
                     int64_t expert_columns) {
  const size_t type = size_of(model.activation_dtype()), row = static_cast<size_t>(rows * model.config.hidden_size);
  size_t most = 0;
  for (const auto& layer : model.layers) {
    size_t group = 0;  // the gradient of a sum that several branches read
    for (Branch& branch : layer->branches) {
      PassNeed need{rows, 0, model.activation_dtype(), training, 0, expert_columns};
      const Parts parts = branch.mixer->parts();
      for (const ExpertWeights* experts : parts.experts)
        need.expert_columns = std::max(need.expert_columns, expert_rank(adapters, experts->index));
      for (const Site* site : parts.sites) need.adapter_columns = std::max(need.adapter_columns, adapter_width(adapters, site->index));
      size_t bytes = row * (sizeof(float) + type) + branch.mixer->scratch_bytes(need);
      if (training && (branch.after || branch.scale != 1)) bytes += row * sizeof(float);
      if (branch.beside) group = row * sizeof(float);
      most = std::max(most, bytes);
    }
    most += group;
  }
  int64_t embedding = 0;
  for (const AdapterSet* set : adapters)
    if (set->embedding) embedding = std::max(embedding, 2 * set->embedding->r());
  return std::max(most, static_cast<size_t>(rows * embedding) * sizeof(float)) + 64 * 32;
}

size_t thread_bytes(const Model& model, int64_t rows, int64_t longest, bool share) {
  PassNeed need{rows, longest, model.activation_dtype(), true, 0};
  need.shared = share ? rows : 0;
  size_t most = 0;
  for (const auto& layer : model.layers)
    for (const Branch& branch : layer->branches) most = std::max(most, branch.mixer->thread_bytes(need));
  return most;
}

int64_t shares_up_to(const Model& model) {
  int64_t least = INT64_MAX;
  for (const auto& layer : model.layers)
    for (const Branch& branch : layer->branches) least = std::min(least, branch.mixer->shares_up_to());
  return least;
}

}  // namespace loraine
