// What a mixer with a state must keep to, through a model with one layer of it: gradients of all its tensors by differences, and sequences
// longer than its chunks in pieces.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "loraine/adapters/dense.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/model/attach.h"
#include "loraine/model/decoder.h"
#include "tests/support/any_model.h"
#include "tests/support/op_check.h"

namespace loraine {

inline nlohmann::json one_layer(const char* model_type, const nlohmann::json& own) {
  nlohmann::json config = {{"model_type", model_type}, {"vocab_size", 61}, {"hidden_size", 24},        {"intermediate_size", 32},
                           {"num_hidden_layers", 1},   {"head_dim", 8},    {"num_attention_heads", 2}, {"num_key_value_heads", 1}};
  config.update(own);
  return config;
}

struct Piece {
  int64_t sequence = 0, first = 0, count = 0;  // rows [first, first + count) of a sequence
  int64_t kv_start = -1, slot = 0;             // -1: its own rows in the batch
};

inline Batch batch_of(const std::vector<Piece>& pieces) {
  Batch batch;
  for (const Piece& piece : pieces) {
    batch.sequences.push_back(
        {batch.rows(), piece.count, piece.kv_start < 0 ? batch.rows() : piece.kv_start, piece.first + piece.count, piece.slot});
    for (int64_t t = piece.first; t < piece.first + piece.count; ++t) {
      batch.tokens.push_back(static_cast<int32_t>((t * 7 + piece.sequence * 13 + 5) % 61));
      batch.positions.push_back(static_cast<int32_t>(t));
    }
  }
  batch.adapter_rows = {{0, batch.rows(), 0}};
  return batch;
}

// Passes of one model with what a set has in the place of the base's tensors.
class MixerPasses {
 public:
  MixerPasses(const Model& model, AdapterSet& set, int64_t rows, bool training) : model_(model), set_(set), sets_{&set}, rows_(rows) {
    Arena dry;
    plan_activations(model, rows, training, sets_, dry);
    memory_ = Arena(dry.peak());
    scratch_ = Arena(scratch_bytes(model, rows, training, sets_));
    activations_ = plan_activations(model, rows, training, sets_, memory_);
  }
  std::vector<float> forward(const Batch& batch, KvCache* cache) {
    EXPECT_LE(batch.rows(), rows_);
    pass_ = {&activations_, cache, sets_, &scratch_, cache == nullptr};
    decoder_forward(ctx_, model_, batch, pass_);
    const Tensor hidden = activations_.hidden.row_range(0, batch.rows());
    return {hidden.f32(), hidden.f32() + hidden.numel()};
  }
  void backward(const Batch& batch, std::vector<float> d) {
    decoder_backward(ctx_, model_, batch, pass_, set_, Tensor(d.data(), Dtype::F32, {batch.rows(), model_.config.hidden_size}));
  }

 private:
  const Model& model_;
  AdapterSet& set_;
  std::vector<const AdapterSet*> sets_;
  int64_t rows_;
  Arena memory_, scratch_;
  Activations activations_;
  Pass pass_;
  Context ctx_;
};

// Every tensor of the layer's first mixer, whose names begin with `folder`, trained whole: along a random direction the loss Σ r · hidden
// rises as its gradient says.
inline void expect_gradients_by_differences(const nlohmann::json& config, const std::string& folder) {
  const Model model = any_model(config);
  AdapterSet set;
  set.sites.resize(model.sites().size());
  attach_dense(
      set, model, [&](const std::string& name) { return name.find(".0." + folder) != std::string::npos ? name : ""; }, true, true);
  const Batch batch = batch_of({{0, 0, 70}, {1, 0, 5}, {2, 0, 33}});
  MixerPasses passes(model, set, batch.rows(), true);
  const std::vector<float> r = random_floats(batch.rows() * model.config.hidden_size, 5);
  passes.forward(batch, nullptr);
  passes.backward(batch, r);
  ASSERT_FALSE(set.parameters().empty());
  for (const Parameter& p : set.parameters()) {
    std::vector<float> kept(p.value.f32(), p.value.f32() + p.value.numel()), direction = random_floats(p.value.numel(), 7);
    double along = 0, size = 0;
    for (size_t i = 0; i < direction.size(); ++i) {
      along += static_cast<double>(p.gradient.f32()[i]) * direction[i];
      size += static_cast<double>(p.gradient.f32()[i]) * p.gradient.f32()[i];
    }
    const float h = 3e-4f;
    std::vector<float> at[2];
    for (const int side : {0, 1}) {
      for (size_t i = 0; i < kept.size(); ++i) p.value.f32()[i] = kept[i] + (side ? h : -h) * direction[i];
      at[side] = passes.forward(batch, nullptr);
    }
    std::copy(kept.begin(), kept.end(), p.value.f32());
    double rise = 0;
    for (size_t i = 0; i < r.size(); ++i) rise += static_cast<double>(r[i]) * (static_cast<double>(at[1][i]) - at[0][i]);
    EXPECT_GT(size, 0) << p.name;
    EXPECT_NEAR(rise / (2.0 * h), along, 5e-3 * std::sqrt(size) + 1e-3) << p.name;
  }
}

// Two sequences longer than a chunk, in pieces beside each other, are as each one whole; a third one begins anew in a slot that was used.
inline void expect_pieces_as_whole(const nlohmann::json& config) {
  const Model model = any_model(config);
  AdapterSet set;
  set.sites.resize(model.sites().size());
  MixerPasses whole(model, set, 140, false), pieces(model, set, 140, false);
  const int64_t lengths[] = {140, 131, 20};
  KvCache cache(model, 300, 2);
  std::vector<std::vector<float>> got(3);
  int64_t done[3] = {};
  const auto run = [&](const std::vector<std::pair<int64_t, int64_t>>& next) {  // sequence, rows
    std::vector<Piece> batch;
    for (const auto& [which, count] : next) batch.push_back({which, done[which], count, which % 2 * 150, which % 2});
    const std::vector<float> hidden = pieces.forward(batch_of(batch), &cache);
    auto at = hidden.begin();
    for (const auto& [which, count] : next) {
      got[static_cast<size_t>(which)].insert(got[static_cast<size_t>(which)].end(), at, at + count * model.config.hidden_size);
      at += count * model.config.hidden_size;
      done[which] += count;
    }
  };
  run({{0, 70}});
  run({{1, 3}, {0, 1}});
  run({{0, 1}, {1, 66}});
  run({{0, 64}, {1, 1}});
  run({{0, 4}, {1, 61}});
  run({{2, 12}});
  run({{2, 8}});
  for (size_t which = 0; which < 3; ++which) {
    Batch batch = batch_of({{static_cast<int64_t>(which), 0, lengths[which], 0, 0}});
    KvCache fresh(model, 150, 1);
    expect_near(got[which], whole.forward(batch, &fresh), 2e-5, "pieces");
  }
}

}  // namespace loraine
