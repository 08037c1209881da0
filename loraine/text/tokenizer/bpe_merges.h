// Pairs of ids that merge: rank of a pair, and the id that a rank makes. Eight bytes a pair, open addressing. Part of bpe.h.
#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace loraine::tokens {

class MergeTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // Room for `merges` pairs of ids below `ids`; false: the numbers do not fit into the table's entries.
  bool reserve(size_t merges, size_t ids);
  // Ranks are 0, 1, 2 … in the order of the calls; of a pair that comes twice, the last counts.
  void add(int32_t left, int32_t right, int32_t joined);
  void prefetch(int32_t left, int32_t right) const { __builtin_prefetch(&entries_[slot(pair_of(left, right))]); }

  uint32_t rank_of(int32_t left, int32_t right) const {  // kNone: they do not merge
    uint64_t pair = pair_of(left, right);
    size_t bit = filter_bit(pair);
    if (!(filter_[bit / 64] >> (bit % 64) & 1)) return kNone;
    for (size_t at = slot(pair);; at = (at + 1) & mask_) {
      if (entries_[at] >> rank_bits_ == pair) return static_cast<uint32_t>(entries_[at] & ((uint64_t{1} << rank_bits_) - 1));
      if (entries_[at] == UINT64_MAX) return kNone;
    }
  }
  int32_t joined(uint32_t rank) const { return joined_[rank]; }

  template <typename Visit>  // visit(left, right) for each pair, in no order
  void each_pair(const Visit& visit) const {
    for (uint64_t entry : entries_)
      if (entry != UINT64_MAX)
        visit(static_cast<int32_t>(entry >> (id_bits_ + rank_bits_)),
              static_cast<int32_t>(entry >> rank_bits_ & ((uint64_t{1} << id_bits_) - 1)));
  }

 private:
  static constexpr int kFilterBits = 21;
  uint64_t pair_of(int32_t left, int32_t right) const {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << id_bits_ | static_cast<uint32_t>(right);
  }
  size_t slot(uint64_t pair) const { return pair * 0x9E3779B97F4A7C15ull >> shift_; }
  // Independent of the place in the table.
  static size_t filter_bit(uint64_t pair) { return (pair ^ pair >> 19) * 0xD6E8FEB86659FD93ull >> (64 - kFilterBits); }

  std::vector<uint64_t> entries_;  // left, right, rank from the top; all ones: empty
  std::vector<uint64_t> filter_;   // a bit per hash of a pair: most pairs that do not merge are refused here
  std::vector<int32_t> joined_;    // by rank
  size_t mask_ = 0;
  int id_bits_ = 0, rank_bits_ = 0, shift_ = 0;
};

inline bool MergeTable::reserve(size_t merges, size_t ids) {
  id_bits_ = static_cast<int>(std::bit_width(ids));  // an id never has all bits set, so no entry is all ones
  rank_bits_ = static_cast<int>(std::bit_width(merges | 1));
  if (2 * id_bits_ + rank_bits_ > 64) return false;
  entries_.assign(std::bit_ceil(std::max<size_t>(16, merges + merges / 2)), UINT64_MAX);
  filter_.assign((size_t{1} << kFilterBits) / 64, 0);
  joined_.reserve(merges);
  mask_ = entries_.size() - 1;
  shift_ = 64 - std::countr_zero(entries_.size());
  return true;
}

inline void MergeTable::add(int32_t left, int32_t right, int32_t joined) {
  uint64_t pair = pair_of(left, right);
  size_t at = slot(pair), bit = filter_bit(pair);
  while (entries_[at] != UINT64_MAX && entries_[at] >> rank_bits_ != pair) at = (at + 1) & mask_;
  entries_[at] = pair << rank_bits_ | joined_.size();
  filter_[bit / 64] |= uint64_t{1} << (bit % 64);
  joined_.push_back(joined);
}

}  // namespace loraine::tokens
