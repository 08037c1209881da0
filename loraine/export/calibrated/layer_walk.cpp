// See layer_walk.h. Batches are as many texts as make kBatchTokens, each a sequence of its own.
#include "loraine/export/calibrated/layer_walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/model/layer.h"

namespace loraine {
namespace {

constexpr int64_t kBatchTokens = 2048;

struct EnoughSeen {};  // thrown out of a forward whose rest is not needed

void check_layers_stand_alone(const Model& model) {
  for (const auto& layer : model.layers)
    for (const Branch& branch : layer->branches) {
      Arena dry;
      if (branch.mixer->plan_lasting(dry, 1, Dtype::F32, false).empty()) continue;
      throw Error(ErrorKind::unsupported, "layers of this model read what earlier ones computed, and they are quantised one by one",
                  "export it without export_quantization_bit");
    }
}

}  // namespace

LayerWalk::LayerWalk(const Model& model, const std::vector<std::vector<int32_t>>& texts) : model_(model) {
  check_layers_stand_alone(model);
  if (model.activation_dtype() != Dtype::F32) throw Error(ErrorKind::internal, "a model is walked through in F32");
  for (const std::vector<int32_t>& ids : texts) {
    const auto length = static_cast<int64_t>(ids.size());
    if (length == 0) continue;
    if (batches_.empty() || batches_.back().batch.rows() + length > kBatchTokens) batches_.emplace_back();
    Batch& batch = batches_.back().batch;
    const int64_t start = batch.rows();
    batch.tokens.insert(batch.tokens.end(), ids.begin(), ids.end());
    for (int64_t t = 0; t < length; ++t) batch.positions.push_back(static_cast<int32_t>(t));
    batch.sequences.push_back({start, length, start, length});
    tokens_ += length;
  }
  int64_t rows = 0;
  for (const TextBatch& each : batches_) rows = std::max(rows, each.batch.rows());
  if (rows == 0) throw Error(ErrorKind::usage, "there is no text to calibrate with", "give export_quantization_dataset texts");
  Arena dry;
  plan_activations(model, rows, false, {}, dry);
  memory_ = Arena(dry.peak());
  scratch_ = Arena(scratch_bytes(model, rows, false, {}));
  activations_ = plan_activations(model, rows, false, {}, memory_);
  Context ctx;
  for (TextBatch& each : batches_) {
    Pass pass{&activations_, nullptr, {}, &scratch_, false};
    embed_tokens(ctx, model, each.batch, pass);
    const Tensor x = activations_.layers[0][0].x.row_range(0, each.batch.rows());
    each.stream = Buffer(x.bytes());
    std::memcpy(each.stream.data(), x.data, x.bytes());
  }
}

void LayerWalk::forward(int64_t layer, TextBatch& texts, const SeesInput* sees, bool goes_on) {
  const Tensor x = activations_.layers[static_cast<size_t>(layer)][0].x.row_range(0, texts.batch.rows());
  std::memcpy(x.data, texts.stream.data(), texts.stream.bytes());
  Pass pass{&activations_, nullptr, {}, &scratch_, false};
  if (sees)
    pass.before_site = [&](int64_t site, const Tensor& x) {
      if (!(*sees)(site, x) && !goes_on) throw EnoughSeen();
    };
  const Tensor next = activations_.x_last.row_range(0, texts.batch.rows());
  const size_t mark = scratch_.mark();
  Context ctx;
  try {
    layer_forward(ctx, model_, texts.batch, pass, layer, next);
  } catch (const EnoughSeen&) {
    scratch_.release(mark);
    return;
  }
  if (goes_on) std::memcpy(texts.stream.data(), next.data, texts.stream.bytes());
}

void LayerWalk::look(int64_t layer, const SeesInput& sees, size_t batches) {
  for (size_t i = 0; i < std::min(batches, batches_.size()); ++i) forward(layer, batches_[i], &sees, false);
}

void LayerWalk::pass(int64_t layer, const SeesInput* sees) {
  for (TextBatch& each : batches_) forward(layer, each, sees, true);
}

std::vector<int64_t> sites_in_order(LayerWalk& walk, int64_t layer) {
  std::vector<int64_t> order;
  const auto note = [&](int64_t site, const Tensor&) {
    if (std::ranges::find(order, site) == order.end()) order.push_back(site);
    return true;
  };
  walk.look(layer, note, 1);
  return order;
}

}  // namespace loraine
