// LoRA and DoRA in device memory: values, gradients and moments of a set in one buffer each, made from the host's and fetched back into
// them. Called by gpu_decoder and train/gpu.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/core/gpu_arena.h"

namespace loraine {

struct GpuLoraPart {
  int64_t offset = 0, out = 0, r = 0, rank_offset = 0;  // first column in y and of the stacked ranks
  float scale = 1;
  Tensor b = {}, d_b = {};                  // [out, r]
  Tensor magnitude = {}, d_magnitude = {};  // [out] of DoRA
};

// Columns and rows that a joined site (gpu_model) has for the ranks of its LoRA: so many that rows still begin at 16 bytes.
inline int64_t joined_ranks(int64_t rank) { return (rank + 7) / 8 * 8; }

struct GpuLora {  // of one site, as adapters/lora.h and dora.h have it
  Tensor a, d_a;  // [R, in], those of its parts stacked
  std::vector<GpuLoraPart> parts;
  float dropout = 0;
  uint64_t site = 0;
  int64_t out = 0;                                                       // of the site; with DoRA that many of
  float *norm = nullptr, *factor = nullptr, *factor_less_one = nullptr;  // n, m / n, m / n − 1: of values as they were at the last refresh
  double* squares = nullptr;                                             // of the rows of W
  int64_t rank() const { return a.rows(); }
  bool dora() const { return norm != nullptr; }
};

class GpuAdapter {
 public:
  // Of a set that has LoRA or DoRA at sites and nothing else (internal otherwise), trained. All is zero until it is put there.
  // shapes_alone: without memory, its tensors lie nowhere. beside: what else is updated with it, whose places come last.
  GpuAdapter(const AdapterSet& set, GpuStream& stream, bool shapes_alone = false, std::span<const Parameter> beside = {})
      : GpuAdapter(set, stream, shapes_alone, kKinds, beside) {}
  // Its values alone, put there: to be asked.
  static std::unique_ptr<GpuAdapter> values_of(const AdapterSet& set, GpuStream& stream);
  size_t bytes() const { return memory_.used(); }

  const GpuLora* at(int64_t site) const { return sites_[static_cast<size_t>(site)] ? &*sites_[static_cast<size_t>(site)] : nullptr; }
  // One trained tensor, by PEFT's name: n elements from `offset` on of each of the four buffers.
  struct Place {
    std::string name;
    int64_t offset, n;
    int64_t site = -1;  // the model's number; -1: of what is updated beside
    size_t part = 0;    // of the site
    bool is_b = false;
  };
  const std::vector<Place>& places() const { return places_; }
  enum Kind { kValues, kGradients, kFirstMoments, kSecondMoments, kKinds };
  float* data(Kind kind) const { return data_[kind]; }
  int64_t elements() const { return elements_; }  // of each buffer, with zeros between the tensors

  void zero_gradients();
  // From and to host memory: `host` gives the tensor of a name there, contiguous F32.
  using HostTensor = std::function<Tensor(const std::string& name)>;
  void put(Kind kind, const HostTensor& host);
  void fetch(Kind kind, const HostTensor& host) const;
  int64_t rank_columns() const;                                 // of the widest site
  static int64_t rank_at(const AdapterSet& set, int64_t site);  // of LoRA's parts there together; 0: there is none, or DoRA
  bool has_dora() const { return dora_room_ != nullptr; }
  float* dora_room() const { return dora_room_; }  // [2 out r + r²] of the largest part
  void values_changed() { stale_ = true; }
  bool take_stale() const { return std::exchange(stale_, false); }  // whether what follows from the values is of others

 private:
  GpuAdapter(const AdapterSet& set, GpuStream& stream, bool shapes_alone, int kinds, std::span<const Parameter> beside = {});
  void take_dora(const AdapterSet& set, GpuArena& arena);
  GpuStream& stream_;
  GpuArena memory_;
  float* dora_room_ = nullptr;
  mutable bool stale_ = true;
  int64_t elements_ = 0;
  float* data_[kKinds] = {};
  std::vector<std::optional<GpuLora>> sites_;
  std::vector<Place> places_;
};

}  // namespace loraine
