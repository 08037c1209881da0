// Where a word may be cut before BPE: between two characters that no merge joins, so that both sides are encoded alone. Part of bpe.h.
// In a model over bytes a merge may also join a part of a character; its parts are asked for too.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace loraine::tokens {

class Crossings {
 public:
  explicit Crossings(bool bytes = false) : bytes_(bytes) {}
  void add(std::string_view left, std::string_view right);  // the two spellings of a merge; raw bytes in a model over bytes

  // Two neighbouring characters, as key_of gives them. False: no merge ever crosses from one to the other.
  bool may_cross(uint32_t left, uint32_t right) const {
    uint32_t row = near_index(left), column = near_index(right);
    if (row != kFar && column != kFar) return near_[row / 32 * 512 + column] >> (row % 32) & 1;
    return bytes_ ? parts_may_cross(left, right) : listed(left, right);
  }
  // The character at `at`, which moves behind it: its bytes, first one on top, in a model over bytes; else the character itself.
  uint32_t key_of(std::string_view text, size_t& at) const;

 private:
  static constexpr uint32_t kFar = 511;
  static constexpr int kFilterBits = 20;
  static uint32_t near_index(uint32_t key) { return key < 0x180 ? key : key == 0x2581 ? 0x180 : kFar; }
  static uint64_t mixed(uint32_t left, uint32_t right) {
    return (left * 0x9E3779B97F4A7C15ull ^ (left * 0x9E3779B97F4A7C15ull >> 32)) + right * 0xD6E8FEB86659FD93ull;
  }
  bool listed(uint32_t left, uint32_t right) const {
    size_t bit = mixed(left, right) >> (64 - kFilterBits);
    return (filter_[bit / 64] >> (bit % 64) & 1) && in_table(left, right);
  }
  bool in_table(uint32_t left, uint32_t right) const;
  bool parts_may_cross(uint32_t left, uint32_t right) const;
  void insert(uint64_t key);
  void grow();

  bool bytes_;
  std::vector<uint32_t> near_ = std::vector<uint32_t>(512 / 32 * 512);  // common characters on both sides: a bit each
  std::vector<uint64_t> filter_ = std::vector<uint64_t>((size_t{1} << kFilterBits) / 64);
  std::vector<uint64_t> table_ = std::vector<uint64_t>(1024, UINT64_MAX);  // open addressing: left << 32 | right
  size_t count_ = 0;
};

}  // namespace loraine::tokens
