// The optimizer on the GPU: one launch over all tensors, whose scalars lie in device memory.
#include "loraine/train/gpu/gpu_training.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/train/gpu/gpu_losses.h"
#include "loraine/train/optimizers/recipe.h"

namespace loraine {
namespace {

constexpr size_t kProductRoom = size_t{32} << 20;  // workspace of the library of products

constexpr int64_t kMostRates = 8;

size_t update_bytes(const GpuAdapter& adapter) {
  GpuArena dry;
  dry.take_array<AdamWItem>(static_cast<int64_t>(adapter.places().size()));
  dry.take_array<GradientItem>(2);
  dry.take_array<AdamWScalars>(kMostRates);
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

constexpr int64_t kSideLogitRows = 256;  // at a time, in passes beside

GpuAskedShape side_shape(const GpuAdapter& adapter, int64_t rows) { return {rows, adapter.rank_columns(), std::min(rows, kSideLogitRows)}; }

}  // namespace

GpuTraining::Bytes GpuTraining::bytes(const Model& model, const AdapterSet& set, const GpuTrainingShape& shape) {
  GpuStream none;
  const GpuAdapter adapter(set, none, true, shape.beside);
  const GpuModel base = GpuModel::shapes(model, &set);
  size_t side = 0;
  if (shape.side_rows > 0)
    side = GpuDecoder::bytes(base, side_shape(adapter, shape.side_rows)) + GpuDecoder::room_bytes(base, adapter, shape.side_rows) +
           kProductRoom;
  return {base.bytes(), adapter.bytes(), GpuDecoder::bytes(model, set, shape.rows, shape.recompute) + side,
          update_bytes(adapter) + kProductRoom};
}

GpuTraining::GpuTraining(const TrainConfig& config, const Model& model, const AdapterSet& set, Optimizer& optimizer,
                         const GpuTrainingShape& shape, GpuCosts* only_count)
    : config_(config),
      optimizer_(optimizer),
      stream_(only_count ? GpuStream(*only_count) : GpuStream()),
      model_(only_count ? GpuModel::shapes(model, &set) : GpuModel(model, stream_, &set)),
      adapter_(set, stream_, only_count != nullptr, shape.beside),
      decoder_(only_count ? GpuDecoder::shapes(model_, adapter_, shape.rows, stream_, shape.recompute)
                          : GpuDecoder(model_, adapter_, shape.rows, stream_, shape.recompute)),
      beside_(shape.beside),
      memory_(only_count ? GpuArena() : GpuArena(update_bytes(adapter_))) {
  if (only_count && (shape.side_rows > 0 || !beside_.empty()))
    throw Error(ErrorKind::internal, "passes and parameters beside the adapter are not counted without a GPU's memory");
  if (shape.side_rows > 0) {
    side_.emplace(model_, side_shape(adapter_, shape.side_rows), stream_);
    side_->make_room_for(adapter_);
  }
  size_t of_beside = 0;
  for (const Parameter& parameter : beside_) of_beside += parameter.value.bytes();
  if (of_beside > 0) beside_staging_ = GpuMemory(of_beside, GpuMemoryKind::pinned);
  std::vector<AdamWItem> items;
  for (const GpuAdapter::Place& place : adapter_.places()) {
    const auto at = [&](GpuAdapter::Kind kind) { return adapter_.data(kind) + place.offset; };
    const auto parameter = std::ranges::find(optimizer.parameters(), place.name, &Parameter::name);
    if (parameter == optimizer.parameters().end())
      throw Error(ErrorKind::internal, "the GPU has a parameter that the run has not: " + place.name);
    const Part& part = optimizer.part(static_cast<size_t>(parameter - optimizer.parameters().begin()));
    auto rate = std::ranges::find(rate_factors_, part.rate_factor);
    if (rate == rate_factors_.end()) rate = rate_factors_.insert(rate, part.rate_factor);
    items.push_back({at(GpuAdapter::kValues), at(GpuAdapter::kFirstMoments), at(GpuAdapter::kSecondMoments), at(GpuAdapter::kGradients),
                     nullptr, place.n, 0, 0, decimal_of(static_cast<float>(part.decay)),
                     static_cast<int32_t>(rate - rate_factors_.begin())});
    if (const std::optional<GpuModel::Copy> copy = model_.copy_of(adapter_, place)) {
      AdamWItem& item = items.back();
      item.copy = copy->at.data, item.copy_cols = copy->at.cols(), item.copy_stride = copy->at.row_stride;
      item.copy_scale = copy->scale, item.copy_narrow = copy->at.dtype == Dtype::BF16;
    }
    most_ = std::max(most_, place.n);
  }
  if (static_cast<int64_t>(rate_factors_.size()) > kMostRates)
    throw Error(ErrorKind::internal, "more learning rates than the GPU's memory was planned for");
  const GradientItem all[2] = {{adapter_.data(GpuAdapter::kGradients), adapter_.elements()},
                               {adapter_.data(GpuAdapter::kValues), adapter_.elements()}};
  items_ = memory_.take_array<AdamWItem>(static_cast<int64_t>(items.size()));
  all_ = memory_.take_array<GradientItem>(2);
  scalars_ = memory_.take_array<AdamWScalars>(kMostRates);
  norm_ = memory_.take_array<GradientNorm>(2);
  partial_ = memory_.take_array<double>(gradient_norm_room(1, adapter_.elements()));
  if (only_count) return;
  staging_ =
      GpuMemory(std::max({items.size() * sizeof(AdamWItem), sizeof all, kMostRates * sizeof(AdamWScalars), 2 * sizeof(GradientNorm)}),
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

// The host's tensor of each parameter beside the adapter, its place in device memory, and that in the staging memory.
template <class Move>
void GpuTraining::each_beside(GpuAdapter::Kind kind, const Move& move) {
  auto* staged = static_cast<float*>(beside_staging_.data());
  for (const Parameter& parameter : beside_) {
    const auto place = std::ranges::find(adapter_.places(), parameter.name, &GpuAdapter::Place::name);
    move(parameter, adapter_.data(kind) + place->offset, staged);
    staged += parameter.value.numel();
  }
}

void GpuTraining::zero_gradients() {
  adapter_.zero_gradients();
  for (const Parameter& parameter : beside_) std::memset(parameter.gradient.data, 0, parameter.gradient.bytes());
}

LossSums GpuTraining::side_losses(const Batch& batch, bool adapted) {
  const GpuAdapterRows all{0, batch.rows(), &adapter_};
  side_->forward(batch, adapted ? std::span(&all, 1) : std::span<const GpuAdapterRows>());
  return losses_on_gpu(*side_, batch, {}, 0);
}

GpuTraining::Updated GpuTraining::update(double rate, int64_t step) {
  std::vector<AdamWScalars> scalars;
  for (const double factor : rate_factors_)
    scalars.push_back(adamw_scalars({static_cast<float>(factor == 1 ? rate : rate * factor), static_cast<float>(config_.adam_beta1),
                                     static_cast<float>(config_.adam_beta2), static_cast<float>(config_.adam_epsilon), 0, step}));
  const size_t bytes = scalars.size() * sizeof(AdamWScalars);
  if (!stream_.dry()) std::memcpy(staging_.data(), scalars.data(), bytes);  // free: every update waits
  stream_.copy(scalars_, staging_.data(), bytes);
  each_beside(GpuAdapter::kGradients, [&](const Parameter& parameter, float* device, float* staged) {
    std::memcpy(staged, parameter.gradient.data, parameter.gradient.bytes());
    stream_.copy(device, staged, parameter.gradient.bytes());
  });
  gradient_norm_cuda(stream_, norm_, all_, 1, adapter_.elements(), config_.max_grad_norm, partial_);
  adamw_cuda(stream_, items_, static_cast<int64_t>(adapter_.places().size()), most_, adapter_.elements(), scalars_, norm_);
  adapter_.values_changed();
  gradient_norm_cuda(stream_, norm_ + 1, all_ + 1, 1, adapter_.elements(), 0, partial_);  // of the values
  GradientNorm norms[2] = {};
  stream_.copy(staging_.data(), norm_, sizeof norms);
  each_beside(GpuAdapter::kValues, [&](const Parameter& parameter, const float* device, float* staged) {
    stream_.copy(staged, device, parameter.value.bytes());
  });
  stream_.synchronise();
  if (!stream_.dry()) std::memcpy(norms, staging_.data(), sizeof norms);
  each_beside(GpuAdapter::kValues, [](const Parameter& parameter, const float*, const float* staged) {
    std::memcpy(parameter.value.data, staged, parameter.value.bytes());
  });
  return {decoder_.take_losses(), norms[0].norm, std::isfinite(norms[1].norm)};
}

}  // namespace loraine
