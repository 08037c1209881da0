// SentencePiece's precompiled_charsmap (nmt_nfkc and its like): a double-array trie of byte strings and what each becomes. The
// "Precompiled" normalizer of tokenizer.json; called by normalizer.cpp.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/text/tokenizer/tokenizer_json.h"

namespace loraine::tokens {

class CharacterMap {
 public:
  static CharacterMap from_base64(std::string_view text, const Place& place);

  // As the `tokenizers` library applies it: to a grapheme of up to five bytes as one, to longer ones character by character.
  std::string apply(std::string_view text) const;

 private:
  // What the shortest entry that begins `key` becomes.
  std::optional<std::string_view> find(std::string_view key) const;

  std::vector<uint32_t> trie_;
  std::string results_;  // each ends with a zero byte
};

}  // namespace loraine::tokens
