// Offsets first, the same in all four buffers; then views.
#include "loraine/model/gpu/gpu_adapter.h"

#include <algorithm>
#include <cstring>

#include "loraine/adapters/dora.h"
#include "loraine/adapters/lora.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr int64_t kFloatAlignment = 64;  // so that tensors begin where vectors can be read

const Lora& lora_of(const Adapter& adapter) {
  if (const auto* dora = dynamic_cast<const Dora*>(&adapter)) return dora->lora();
  if (const Lora* lora = adapter.as_lora()) return *lora;
  throw Error(ErrorKind::internal, "an adapter other than LoRA and DoRA on its way to the GPU");
}

int64_t rank_of(const Lora& lora) {
  int64_t rank = 0;
  for (const LoraPart& part : lora.parts()) rank += part.r;
  return rank;
}

int64_t rounded(int64_t elements) { return (elements + kFloatAlignment - 1) / kFloatAlignment * kFloatAlignment; }

int64_t elements_of(const AdapterSet& set, std::span<const Parameter> beside) {
  int64_t elements = 0;
  for (const auto& site : set.sites) {
    if (!site) continue;
    const Lora& lora = lora_of(*site);
    elements += rounded(rank_of(lora) * lora.a(0).cols());
    const bool dora = dynamic_cast<const Dora*>(site.get());
    for (const LoraPart& part : lora.parts()) elements += rounded(part.out * part.r) + (dora ? rounded(part.out) : 0);
  }
  for (const Parameter& parameter : beside) elements += rounded(parameter.value.numel());
  return elements;
}

}  // namespace

GpuAdapter::GpuAdapter(const AdapterSet& set, GpuStream& stream, bool shapes_alone, int kinds, std::span<const Parameter> beside)
    : stream_(stream), elements_(elements_of(set, beside)) {
  const size_t bytes = static_cast<size_t>(elements_) * sizeof(float);
  GpuArena dry;
  sites_.resize(set.sites.size());
  take_dora(set, dry);
  if (!shapes_alone) memory_ = GpuArena(static_cast<size_t>(kinds) * bytes + dry.used());
  if (set.dense || set.embedding || set.head())
    throw Error(ErrorKind::internal, "trained tensors other than LoRA's on their way to the GPU");
  for (int kind = 0; kind < kinds; ++kind) data_[kind] = memory_.take_array<float>(elements_);
  take_dora(set, memory_);
  int64_t offset = 0;
  const auto view = [&](Kind kind, int64_t rows, int64_t cols) {
    return data_[kind] ? Tensor(data_[kind] + offset, Dtype::F32, {rows, cols}) : Tensor();
  };
  for (size_t i = 0; i < set.sites.size(); ++i) {
    const auto& site = set.sites[i];
    std::optional<GpuLora>& out = sites_[i];
    if (!site) continue;
    const auto* dora = dynamic_cast<const Dora*>(site.get());
    const Lora& lora = lora_of(*site);
    const int64_t in = lora.a(0).cols(), rank = rank_of(lora);
    if (!out) out.emplace();
    out->dropout = dora ? dora->dropout_share() : lora.dropout_share();
    out->site = dora ? dora->dropout_site() : lora.dropout_site();
    out->a = view(kValues, rank, in), out->d_a = view(kGradients, rank, in);
    int64_t rank_offset = 0;
    for (const LoraPart& part : lora.parts()) {
      places_.push_back({"base_model.model." + part.name + ".lora_A.weight", offset + rank_offset * in, part.r * in,
                         static_cast<int64_t>(i), out->parts.size(), false});
      out->parts.push_back({part.offset, part.out, part.r, rank_offset, part.scale});
      rank_offset += part.r;
    }
    offset += rounded(rank * in);
    for (size_t p = 0; p < lora.parts().size(); ++p) {
      const LoraPart& part = lora.parts()[p];
      out->parts[p].b = view(kValues, part.out, part.r), out->parts[p].d_b = view(kGradients, part.out, part.r);
      places_.push_back({"base_model.model." + part.name + ".lora_B.weight", offset, part.out * part.r, static_cast<int64_t>(i), p, true});
      offset += rounded(part.out * part.r);
    }
    for (GpuLoraPart& to : out->parts) {
      if (!dora) break;
      const LoraPart& part = lora.parts()[static_cast<size_t>(&to - out->parts.data())];
      to.magnitude = view(kValues, 1, part.out), to.d_magnitude = view(kGradients, 1, part.out);
      places_.push_back({"base_model.model." + part.name + ".lora_magnitude_vector", offset, part.out});
      offset += rounded(part.out);
    }
  }
  for (const Parameter& parameter : beside) {
    places_.push_back({parameter.name, offset, parameter.value.numel()});
    offset += rounded(parameter.value.numel());
  }
  if (shapes_alone) return;
  for (int kind = 0; kind < kinds; ++kind) stream_.fill(data_[kind], 0, bytes);  // what lies between tensors too
}

// What follows from values, of the sites with DoRA.
void GpuAdapter::take_dora(const AdapterSet& set, GpuArena& arena) {
  int64_t room = 0;
  for (size_t i = 0; i < set.sites.size(); ++i) {
    const auto* dora = dynamic_cast<const Dora*>(set.sites[i].get());
    if (!dora) continue;
    GpuLora& out = sites_[i].emplace();
    out.out = dora->out();
    out.norm = arena.take_array<float>(out.out), out.factor = arena.take_array<float>(out.out);
    out.factor_less_one = arena.take_array<float>(out.out), out.squares = arena.take_array<double>(out.out);
    for (const LoraPart& part : dora->lora().parts()) room = std::max(room, 2 * part.out * part.r + part.r * part.r);
  }
  if (room > 0) dora_room_ = arena.take_array<float>(room);
}

std::unique_ptr<GpuAdapter> GpuAdapter::values_of(const AdapterSet& set, GpuStream& stream) {
  std::unique_ptr<GpuAdapter> adapter(new GpuAdapter(set, stream, false, 1));
  std::vector<Tensor> host;  // in the order of places_; names may occur twice in sets that are on together
  for (const auto& site : set.sites) {
    if (!site) continue;
    const Lora& lora = lora_of(*site);
    for (size_t i = 0; i < lora.parts().size(); ++i) host.push_back(lora.a(i));
    for (size_t i = 0; i < lora.parts().size(); ++i) host.push_back(lora.b(i));
    if (const auto* dora = dynamic_cast<const Dora*>(site.get()))
      for (const LoraPart& part : lora.parts())
        host.push_back({const_cast<float*>(dora->magnitude() + part.offset), Dtype::F32, {part.out}});
  }
  size_t next = 0;
  adapter->put(kValues, [&](const std::string&) { return host.at(next++); });
  return adapter;
}

int64_t GpuAdapter::rank_at(const AdapterSet& set, int64_t site) {
  const auto at = static_cast<size_t>(site);
  const Lora* lora = site >= 0 && at < set.sites.size() && set.sites[at] ? set.sites[at]->as_lora() : nullptr;
  return lora ? rank_of(*lora) : 0;
}

int64_t GpuAdapter::rank_columns() const {
  int64_t widest = 1;
  for (const auto& site : sites_)
    if (site) widest = std::max(widest, site->rank());
  return widest;
}

void GpuAdapter::zero_gradients() { stream_.fill(data_[kGradients], 0, static_cast<size_t>(elements_) * sizeof(float)); }

void GpuAdapter::put(Kind kind, const HostTensor& host) {
  if (kind == kValues) values_changed();
  const GpuMemory staging(static_cast<size_t>(elements_) * sizeof(float), GpuMemoryKind::pinned);
  auto* all = static_cast<float*>(staging.data());
  std::memset(all, 0, staging.bytes());
  for (const Place& place : places_) std::memcpy(all + place.offset, host(place.name).f32(), static_cast<size_t>(place.n) * sizeof(float));
  stream_.copy(data_[kind], all, staging.bytes());
  stream_.synchronise();
}

void GpuAdapter::fetch(Kind kind, const HostTensor& host) const {
  const GpuMemory staging(static_cast<size_t>(elements_) * sizeof(float), GpuMemoryKind::pinned);
  const auto* all = static_cast<const float*>(staging.data());
  stream_.copy(staging.data(), data_[kind], staging.bytes());
  stream_.synchronise();
  for (const Place& place : places_) std::memcpy(host(place.name).f32(), all + place.offset, static_cast<size_t>(place.n) * sizeof(float));
}

}  // namespace loraine
