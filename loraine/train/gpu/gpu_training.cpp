// The optimizer on the GPU: one launch over all tensors, whose scalars lie in device memory.
#include "loraine/train/gpu/gpu_training.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/train/optimizers/recipe.h"

namespace loraine {
namespace {

constexpr size_t kProductRoom = size_t{32} << 20;  // workspace of the library of products

size_t update_bytes(const GpuAdapter& adapter) {
  GpuArena dry;
  dry.take_array<AdamWItem>(static_cast<int64_t>(adapter.places().size()));
  dry.take_array<GradientItem>(2);
  dry.take_array<AdamWScalars>(1);
  dry.take_array<GradientNorm>(2);
  dry.take_array<double>(gradient_norm_room(1, adapter.elements()));
  return dry.used();
}

GpuAdapter::HostTensor by_name(const std::vector<Parameter>& parameters, Tensor Parameter::*which) {
  return [&parameters, which](const std::string& name) {
    const auto found = std::ranges::find(parameters, name, &Parameter::name);
    if (found == parameters.end()) throw Error(ErrorKind::internal, "the GPU has a parameter that the run has not: " + name);
    return (*found).*which;
  };
}

GpuAdapter::HostTensor state_by_name(const std::vector<OptimizerState>& states, const char* moment) {
  return [&states, moment](const std::string& name) {
    const auto found = std::ranges::find(states, name + moment, &OptimizerState::name);
    if (found == states.end()) throw Error(ErrorKind::internal, "the optimizer has no state " + name + moment);
    return found->values;
  };
}

}  // namespace

GpuTraining::Bytes GpuTraining::bytes(const Model& model, const AdapterSet& set, int64_t most_rows, Recompute recompute) {
  GpuStream none;
  const GpuAdapter adapter(set, none, true);
  return {GpuModel::shapes(model, &set).bytes(), adapter.bytes(), GpuDecoder::bytes(model, set, most_rows, recompute),
          update_bytes(adapter) + kProductRoom};
}

GpuTraining::GpuTraining(const TrainConfig& config, const Model& model, const AdapterSet& set, Optimizer& optimizer, int64_t most_rows,
                         Recompute recompute, GpuCosts* only_count)
    : config_(config),
      optimizer_(optimizer),
      stream_(only_count ? GpuStream(*only_count) : GpuStream()),
      model_(only_count ? GpuModel::shapes(model, &set) : GpuModel(model, stream_, &set)),
      adapter_(set, stream_, only_count != nullptr),
      decoder_(only_count ? GpuDecoder::shapes(model_, adapter_, most_rows, stream_, recompute)
                          : GpuDecoder(model_, adapter_, most_rows, stream_, recompute)),
      memory_(only_count ? GpuArena() : GpuArena(update_bytes(adapter_))) {
  std::vector<AdamWItem> items;
  for (const GpuAdapter::Place& place : adapter_.places()) {
    const auto at = [&](GpuAdapter::Kind kind) { return adapter_.data(kind) + place.offset; };
    const auto decay = static_cast<float>(decays(place.name) ? config.weight_decay : 0);
    items.push_back({at(GpuAdapter::kValues), at(GpuAdapter::kFirstMoments), at(GpuAdapter::kSecondMoments), at(GpuAdapter::kGradients),
                     nullptr, place.n, 0, 0, decimal_of(decay)});
    if (const std::optional<GpuModel::Copy> copy = model_.copy_of(adapter_, place)) {
      AdamWItem& item = items.back();
      item.copy = copy->at.data, item.copy_cols = copy->at.cols(), item.copy_stride = copy->at.row_stride;
      item.copy_scale = copy->scale, item.copy_narrow = copy->at.dtype == Dtype::BF16;
    }
    most_ = std::max(most_, place.n);
  }
  const GradientItem all[2] = {{adapter_.data(GpuAdapter::kGradients), adapter_.elements()},
                               {adapter_.data(GpuAdapter::kValues), adapter_.elements()}};
  items_ = memory_.take_array<AdamWItem>(static_cast<int64_t>(items.size()));
  all_ = memory_.take_array<GradientItem>(2);
  scalars_ = memory_.take_array<AdamWScalars>(1);
  norm_ = memory_.take_array<GradientNorm>(2);
  partial_ = memory_.take_array<double>(gradient_norm_room(1, adapter_.elements()));
  if (only_count) return;
  staging_ = GpuMemory(std::max({items.size() * sizeof(AdamWItem), sizeof all, sizeof(AdamWScalars), 2 * sizeof(GradientNorm)}),
                       GpuMemoryKind::pinned);
  const auto move = [&](void* to, const void* from, size_t bytes) {
    std::memcpy(staging_.data(), from, bytes);
    stream_.copy(to, staging_.data(), bytes);
    stream_.synchronise();
  };
  move(items_, items.data(), items.size() * sizeof(AdamWItem));
  move(all_, all, sizeof all);
}

void GpuTraining::put() {
  const std::vector<OptimizerState> states = optimizer_.states();
  adapter_.put(GpuAdapter::kValues, by_name(optimizer_.parameters(), &Parameter::value));
  model_.join(stream_, adapter_);
  adapter_.put(GpuAdapter::kFirstMoments, state_by_name(states, ".m"));
  adapter_.put(GpuAdapter::kSecondMoments, state_by_name(states, ".v"));
}

void GpuTraining::fetch() {
  const std::vector<OptimizerState> states = optimizer_.states();
  adapter_.fetch(GpuAdapter::kValues, by_name(optimizer_.parameters(), &Parameter::value));
  adapter_.fetch(GpuAdapter::kGradients, by_name(optimizer_.parameters(), &Parameter::gradient));
  adapter_.fetch(GpuAdapter::kFirstMoments, state_by_name(states, ".m"));
  adapter_.fetch(GpuAdapter::kSecondMoments, state_by_name(states, ".v"));
}

LossSums GpuTraining::losses(const Batch& batch, const TokenLoss& token, float grad_scale) {
  GpuLosses losses = decoder_.losses(token, grad_scale, grad_scale == 0 && !token.plain());
  return sum_losses(batch, decoder_.labelled(), std::move(losses.losses), std::move(losses.plain), losses.correct);
}

GpuTraining::Updated GpuTraining::update(double rate, int64_t step) {
  const AdamW options{static_cast<float>(rate),
                      static_cast<float>(config_.adam_beta1),
                      static_cast<float>(config_.adam_beta2),
                      static_cast<float>(config_.adam_epsilon),
                      0,
                      step};
  const AdamWScalars scalars = adamw_scalars(options);
  if (!stream_.dry()) std::memcpy(staging_.data(), &scalars, sizeof scalars);  // free: every update waits
  stream_.copy(scalars_, staging_.data(), sizeof scalars);
  gradient_norm_cuda(stream_, norm_, all_, 1, adapter_.elements(), config_.max_grad_norm, partial_);
  adamw_cuda(stream_, items_, static_cast<int64_t>(adapter_.places().size()), most_, adapter_.elements(), scalars_, norm_);
  gradient_norm_cuda(stream_, norm_ + 1, all_ + 1, 1, adapter_.elements(), 0, partial_);  // of the values
  GradientNorm norms[2] = {};
  stream_.copy(staging_.data(), norm_, sizeof norms);
  stream_.synchronise();
  if (!stream_.dry()) std::memcpy(norms, staging_.data(), sizeof norms);
  return {decoder_.take_losses(), norms[0].norm, std::isfinite(norms[1].norm)};
}

}  // namespace loraine
