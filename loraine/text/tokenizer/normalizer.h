// The "normalizer" of tokenizer.json: rewrites text before it is cut into words. Called by tokenizer.cpp.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/text/tokenizer/character_map.h"
#include "loraine/text/tokenizer/text_pattern.h"
#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens {

struct Normalizer {
  enum class Kind { none, sequence, unicode, lowercase, prepend, replace, strip, strip_accents, byte_level, character_map };
  Kind kind = Kind::none;
  Form form = Form::nfc;                    // unicode
  std::string content;                      // prepend, replace
  TextPattern pattern;                      // replace
  bool left = false, right = false;         // strip
  std::vector<Normalizer> steps;            // sequence
  std::shared_ptr<const CharacterMap> map;  // character_map
};

Normalizer parse_normalizer(const Json& value, const Place& place);
std::string normalize(const Normalizer& normalizer, std::string text);

// All matches of `pattern` become `content`; also used by the Replace decoder.
std::string replace_all(const TextPattern& pattern, std::string_view content, std::string_view text);

}  // namespace loraine::tokens
