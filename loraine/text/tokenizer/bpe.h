// Byte-pair encoding of one word: the vocabulary, the ranked merges, and a per-thread cache of short words. Called by tokenizer.cpp.
// Words of any length take O(n log n); a word is first cut where no merge can cross.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/text/tokenizer/bpe_crossings.h"
#include "loraine/text/tokenizer/bpe_merges.h"
#include "loraine/text/tokenizer/bpe_vocabulary.h"
#include "loraine/text/tokenizer/word_model.h"

namespace loraine::tokens {

class WordCache;

class Bpe final : public WordModel {
 public:
  // over_bytes: words will come as raw bytes, which the vocabulary spells with GPT-2's stand-ins (see bytes_as_words).
  Bpe(const Json& model, const Place& place, bool over_bytes = false);

  // True if encode_word takes raw bytes: they were asked for, and each byte is a token. Otherwise it takes the vocabulary's spelling.
  bool takes_bytes() const override { return bytes_; }
  void encode_word(std::string_view word, std::vector<int32_t>& ids) const override;  // appends
  std::optional<int32_t> id_of(std::string_view token) const override { return vocabulary_.id_of(token); }
  std::optional<std::string_view> token_of(int32_t id) const override { return vocabulary_.token_of(id); }
  int32_t size() const override { return vocabulary_.size(); }  // one more than the largest id

 private:
  struct Pending;
  void read_merges(const simdjson::dom::array& merges, const Place& place);
  int32_t add_merge(const Pending& merge, int32_t last_joined, const Place& place);  // returns the id it makes
  void fill_character_tables();
  bool bytes_stand_for_the_rest() const;

  int32_t id_of_char(char32_t c, std::string_view spelling) const;
  std::optional<int32_t> whole_word(std::string_view word) const;  // where ignore_merges asks for it
  void encode_part(std::string_view word, bool part, WordCache& cache, std::vector<int32_t>& ids) const;
  void encode_cut(std::string_view word, WordCache& cache, std::vector<int32_t>& ids) const;
  void encode_uncached(std::string_view word, std::vector<int32_t>& ids) const;
  bool encode_short(std::string_view word, std::vector<int32_t>& ids) const;  // false: not one of its words
  void encode_merging(std::string_view word, std::vector<int32_t>& ids) const;
  void spell_symbols(std::string_view word, std::vector<int32_t>& symbols) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  Crossings crossings_;
  std::array<int32_t, 256> byte_fallback_ids_{};  // of "<0x00>" …, -1 for none
  // Words of raw bytes: first_ids_ by byte. Else by character, below kBmp; -1 for none.
  static constexpr char32_t kBmp = 0x10000, kFirst = 0x180;
  std::vector<int32_t> first_ids_;
  std::vector<uint32_t> first_ranks_;  // of two bytes, or two characters below kFirst, GPT-2's stand-ins among them: kFirst x kFirst
  int32_t unknown_ = -1;
  bool bytes_ = false;
  bool all_known_ = false;  // every character has ids of its own: no unknown token comes up, and no merge takes a fallback byte
  bool has_unknown_ = false, fuse_unknown_ = false, byte_fallback_ = false, ignore_merges_ = false, can_cut_ = false;
  std::string prefix_, suffix_;  // continuing_subword_prefix, end_of_word_suffix
  uint64_t serial_ = 0;          // tells the per-thread caches of two tokenizers apart
};

}  // namespace loraine::tokens
