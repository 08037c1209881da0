// See character_map.h.
#include "loraine/text/tokenizer/character_map.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include "loraine/core/base64.h"
#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens {

CharacterMap CharacterMap::from_base64(std::string_view text, const Place& place) {
  const std::optional<std::string> decoded = loraine::from_base64(text);
  if (!decoded) fail(place, "is not base64");
  const std::string& bytes = *decoded;
  auto number = [&](size_t at) {
    uint32_t x = 0;
    for (size_t i = 4; i-- > 0;) x = x << 8 | static_cast<unsigned char>(bytes[at + i]);
    return x;
  };
  const size_t size = bytes.size() >= 4 ? number(0) : 0;
  if (size == 0 || size % 4 != 0 || size > bytes.size() - 4)
    fail(place, fmt::format("has {} bytes, of which a trie takes {}; expected a multiple of 4 that fits", bytes.size(), size));
  CharacterMap map;
  for (size_t at = 0; at < size; at += 4) map.trie_.push_back(number(4 + at));
  map.results_ = bytes.substr(4 + size);
  if (!valid_utf8(map.results_)) fail(place, "its replacements are not UTF-8");
  return map;
}

// Units of the trie: bits 0 to 7 and 31 the label, 8 whether an entry ends here, 9 and 10 to 30 where the children lie.
std::optional<std::string_view> CharacterMap::find(std::string_view key) const {
  auto offset = [](uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & 0x200u) >> 6); };
  size_t at = offset(trie_[0]);
  for (char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    at ^= byte;
    if (byte == 0 || at >= trie_.size() || (trie_[at] & 0x800000FFu) != byte) return std::nullopt;
    const uint32_t unit = trie_[at];
    at ^= offset(unit);
    if ((unit >> 8 & 1) == 0) continue;
    if (at >= trie_.size()) return std::nullopt;
    const size_t begin = trie_[at] & 0x7FFFFFFFu;
    if (begin >= results_.size() || (static_cast<unsigned char>(results_[begin]) & 0xC0u) == 0x80) return std::nullopt;
    return std::string_view(results_).substr(begin, std::min(results_.find('\0', begin), results_.size()) - begin);
  }
  return std::nullopt;
}

std::string CharacterMap::apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    utf8proc_int32_t state = 0;
    for (char32_t last = next_char(text, end); end < text.size();) {
      size_t next = end;
      const char32_t c = next_char(text, next);
      if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(last), static_cast<utf8proc_int32_t>(c), &state)) break;
      last = c;
      end = next;
    }
    const std::string_view grapheme = text.substr(begin, end - begin);
    begin = end;
    if (grapheme.size() < 6)
      if (auto whole = find(grapheme)) {
        out += *whole;
        continue;
      }
    for (size_t at = 0; at < grapheme.size();) {
      const size_t from = at;
      next_char(grapheme, at);
      const std::string_view character = grapheme.substr(from, at - from);
      out += find(character).value_or(character);
    }
  }
  return out;
}

}  // namespace loraine::tokens
