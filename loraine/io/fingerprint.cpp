// See fingerprint.h.
#include "loraine/io/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "loraine/io/files/mapped_file.h"

namespace loraine {
namespace {

constexpr int64_t kSample = 16;  // numbers of each matrix, side by side: one page of the file

// Two 64-bit halves, each with the finaliser of splitmix64 and a constant of its own.
struct Hash {
  std::array<uint64_t, 2> state{0x9e3779b97f4a7c15ull, 0xc2b2ae3d27d4eb4full};
  void add(uint64_t value) {
    for (uint64_t& half : state) {
      half = (half ^ value) * 0xbf58476d1ce4e5b9ull;
      half = (half ^ (half >> 29)) * 0x94d049bb133111ebull;
      half ^= half >> 32;
    }
  }
  void add(std::string_view text) {
    add(text.size());
    for (const char c : text) add(static_cast<uint64_t>(static_cast<unsigned char>(c)));
  }
};

std::optional<Dtype> plain_type(const TensorInfo& info) {
  const bool plain = info.dtype == Dtype::F32 || info.dtype == Dtype::F16 || info.dtype == Dtype::BF16;
  return plain && !info.packed ? std::optional(info.dtype) : std::nullopt;
}

// The kernel maps what lies around a page that is asked for; over all matrices that would count as memory in use.
void release_around(const Tensor& view, int64_t byte) {
  constexpr int64_t kAround = 64 << 10;
  const auto bytes = static_cast<int64_t>(view.bytes());
  const int64_t first = std::max<int64_t>(0, byte - kAround), last = std::min(bytes, byte + kAround);
  release_if_mapped(static_cast<const char*>(view.data) + first, static_cast<size_t>(last - first));
}

}  // namespace

std::string weights_fingerprint(const TensorSource& tensors) {
  Hash hash;
  bool any = false;
  for (const TensorInfo& info : tensors.tensors()) {
    // The head is stored or not where it is tied, and says nothing that the embedding does not.
    if (info.shape.size() != 2 || !info.name.ends_with(".weight") || info.name == "lm_head.weight") continue;
    const std::optional<Dtype> type = plain_type(info);
    const Tensor view = type ? tensors.map(info) : Tensor();
    if (view.data == nullptr) return "";
    hash.add(info.name);
    for (const int64_t size : info.shape) hash.add(static_cast<uint64_t>(size));
    const int64_t all = view.numel(), count = std::min(kSample, all), first = (all - count) / 2;
    std::array<float, kSample> values{};
    convert(values.data(), Dtype::F32, static_cast<const char*>(view.data) + bytes_of(*type, first), *type, count);
    for (const float value : values) hash.add(std::bit_cast<uint32_t>(value));
    release_around(view, bytes_of(*type, first));
    any = true;
  }
  return any ? fmt::format("{:016x}{:016x}", hash.state[0], hash.state[1]) : "";
}

}  // namespace loraine
