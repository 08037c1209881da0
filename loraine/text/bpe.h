// Byte-pair encoding of one word: the vocabulary, the ranked merges, and a per-thread cache of short words. Called by tokenizer.cpp.
// Words of any length take O(n log n); a long word is first cut where no merge can cross.
#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/text/tokenizer_json.h"

namespace loraine::tokens {

class Bpe {
 public:
  Bpe(const Json& model, const Place& place);

  void encode_word(std::string_view word, std::vector<int32_t>& ids) const;  // appends
  std::optional<int32_t> id_of(std::string_view token) const;
  std::optional<std::string_view> token_of(int32_t id) const;
  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }  // one more than the largest id

 private:
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;
  };
  struct Merge {
    uint64_t pair = UINT64_MAX;
    uint32_t rank = 0;
    int32_t id = -1;
  };  // pair: left id << 32 | right id

  void read_vocabulary(const JsonObject& vocabulary, const Place& place);
  void read_merges(const simdjson::dom::array& merges, const Place& place);
  void add_merge(std::string_view left, std::string_view right, uint32_t rank, const Place& place);
  const Merge* merge_of(int32_t left, int32_t right) const;
  size_t merge_slot(uint64_t pair) const { return pair * 0x9E3779B97F4A7C15ull >> merge_shift_; }
  bool encode_short(std::string_view word, std::vector<int32_t>& ids) const;  // false: not one of its words
  void encode_uncached(std::string_view word, std::vector<int32_t>& ids) const;
  void encode_cached(std::string_view word, std::vector<int32_t>& ids) const;
  void encode_merging(std::string_view word, std::vector<int32_t>& ids) const;
  bool may_cross(char32_t left, char32_t right) const;

  std::vector<std::string_view> tokens_;  // by id; null data: no such id
  std::deque<std::string> storage_;       // what tokens_ points into
  std::vector<Slot> slots_;               // open addressing, a power of two
  std::vector<Merge> merges_;             // open addressing, a power of two
  int merge_shift_ = 0;                   // 64 - log2 of its size
  std::vector<uint64_t> merge_filter_;    // a bit per hash of a pair: most pairs that do not merge are refused here
  std::vector<uint64_t> crossings_;       // open addressing: pairs of characters that some merge joins
  std::vector<bool> near_;                // the same for common characters: 512 x 512 bits
  int32_t byte_ids_[256];                 // of "<0x00>" …, -1 for none
  static constexpr char32_t kCharIds = 0x180;
  struct FirstMerge {
    uint32_t rank;
    int32_t id;
  };
  std::vector<FirstMerge> first_merges_;  // of two such characters: kCharIds x kCharIds
  int32_t char_ids_[kCharIds];            // of the first characters, GPT-2's stand-ins for bytes among them; -1 for none
  int32_t unknown_ = -1, last_joined_ = -1;
  bool has_unknown_ = false, fuse_unknown_ = false, byte_fallback_ = false, ignore_merges_ = false, can_cut_ = false;
  std::string prefix_, suffix_;  // continuing_subword_prefix, end_of_word_suffix
  size_t longest_token_ = 0;
  uint64_t serial_ = 0;  // tells the per-thread caches of two tokenizers apart
};

}  // namespace loraine::tokens
