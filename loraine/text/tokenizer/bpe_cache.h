// Per-thread memory of words and their ids, so that BPE runs once for a word that comes back. Part of bpe.h.
// Words of up to 15 bytes lie two to a cache line; words of up to 62 bytes in a table of their own. Nothing is allocated per word.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace loraine::tokens {

// A word of up to 15 bytes: its bytes and, on top, its length.
struct ShortKey {
  uint64_t low = 0, high = 0;
  bool operator==(const ShortKey&) const = default;
};

inline ShortKey short_key(std::string_view word) {  // 1 to 15 bytes
  auto load = [&](size_t at, size_t n) {
    uint64_t x = 0;
    std::memcpy(&x, word.data() + at, n);
    return x;
  };
  size_t n = word.size();
  ShortKey key;
  if (n >= 8) {
    key.low = load(0, 8);
    key.high = n == 8 ? 0 : load(n - 8, 8) >> (8 * (16 - n));
  } else if (n >= 4) {
    key.low = load(0, 4) | load(n - 4, 4) << (8 * (n - 4));
  } else {
    key.low = load(0, 1) | (n > 1 ? load(n - 1, 1) << (8 * (n - 1)) : 0) | (n > 2 ? load(1, 1) << 8 : 0);
  }
  key.high |= uint64_t{n} << 56;
  return key;
}

class WordCache {
 public:
  static constexpr size_t kShortest = 15, kLongest = 62;  // bytes of a word in the one table and in the other

  // Forgets everything unless it already belongs to this model.
  void belong_to(uint64_t model) {
    if (model == model_) return;
    short_.assign(kShortBuckets, {});
    long_.assign(kLongEntries, {});
    model_ = model;
  }

  // Appends the word's ids; calls encode(ids) for a word that is not there and keeps what it appends if that is short.
  // A part of a longer word has entries of its own, since ignore_merges looks at whole words only.
  template <typename Encode>
  void append(std::string_view word, bool part, std::vector<int32_t>& ids, const Encode& encode) {
    if (word.size() <= kShortest) append_short(word, part, ids, encode);
    else append_long(word, part, ids, encode);
  }

 private:
  static constexpr size_t kShortBuckets = 1 << 15, kLongEntries = 1 << 13;
  struct ShortEntry {  // 32 bytes
    ShortKey key;
    int32_t ids[3];
    uint32_t count = 0;
  };
  struct alignas(64) ShortBucket {
    ShortEntry entries[2];  // the newer one first
  };
  struct LongEntry {  // 128 bytes
    uint8_t length = 0, count = 0;
    char word[kLongest];
    int32_t ids[16];
  };

  template <typename Encode>
  void append_short(std::string_view word, bool part, std::vector<int32_t>& ids, const Encode& encode) {
    ShortKey key = short_key(word);
    key.high |= uint64_t{part} << 63;
    uint64_t hash = (key.low * 0x9E3779B97F4A7C15ull ^ std::rotl(key.high, 23)) * 0xD6E8FEB86659FD93ull;
    ShortBucket& bucket = short_[hash >> (64 - 15)];
    ShortEntry* entry = &bucket.entries[0];
    if (!(entry->key == key)) ++entry;
    if (entry->key == key) {
      if (entry->count == 1) return ids.push_back(entry->ids[0]);
      ids.insert(ids.end(), entry->ids, entry->ids + entry->count);
      return;
    }
    size_t before = ids.size();
    encode(ids);
    size_t count = ids.size() - before;
    if (count > std::size(entry->ids)) return;
    bucket.entries[1] = bucket.entries[0];
    bucket.entries[0].key = key;
    bucket.entries[0].count = static_cast<uint32_t>(count);
    for (size_t k = 0; k < count; ++k) bucket.entries[0].ids[k] = ids[before + k];
  }

  template <typename Encode>
  void append_long(std::string_view word, bool part, std::vector<int32_t>& ids, const Encode& encode);

  uint64_t model_ = 0;
  std::vector<ShortBucket> short_;
  std::vector<LongEntry> long_;
};

uint64_t hash_bytes(std::string_view text);

template <typename Encode>
void WordCache::append_long(std::string_view word, bool part, std::vector<int32_t>& ids, const Encode& encode) {
  LongEntry& entry = long_[(hash_bytes(word) + part) % kLongEntries];
  auto length = static_cast<uint8_t>(word.size() | (part ? 0x80u : 0));
  if (entry.length == length && std::memcmp(entry.word, word.data(), word.size()) == 0) {
    ids.insert(ids.end(), entry.ids, entry.ids + entry.count);
    return;
  }
  size_t before = ids.size();
  encode(ids);
  size_t count = ids.size() - before;
  if (count > std::size(entry.ids)) return;
  entry.length = length;
  entry.count = static_cast<uint8_t>(count);
  std::memcpy(entry.word, word.data(), word.size());
  for (size_t k = 0; k < count; ++k) entry.ids[k] = ids[before + k];
}

}  // namespace loraine::tokens
