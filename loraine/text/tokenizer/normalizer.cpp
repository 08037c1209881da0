// See normalizer.h.
#include "loraine/text/tokenizer/normalizer.h"

#include <algorithm>

namespace loraine::tokens {

Normalizer parse_normalizer(const Json& value, const Place& place) {
  Normalizer out;
  if (value.is_null()) return out;
  JsonObject object = as_object(value, place);
  std::string type = get_string(object, "type", place);
  using Kind = Normalizer::Kind;
  if (type == "Sequence") {
    check_keys(object, {"type", "normalizers"}, place);
    out.kind = Kind::sequence;
    for (auto step : get_array(object, "normalizers", place)) out.steps.push_back(parse_normalizer(step, place.in("normalizers")));
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    check_keys(object, {"type"}, place);
    out.kind = Kind::unicode;
    out.form = type == "NFC" ? Form::nfc : type == "NFD" ? Form::nfd : type == "NFKC" ? Form::nfkc : Form::nfkd;
  } else if (type == "Lowercase" || type == "StripAccents" || type == "ByteLevel") {
    check_keys(object, {"type"}, place);
    out.kind = type == "Lowercase" ? Kind::lowercase : type == "StripAccents" ? Kind::strip_accents : Kind::byte_level;
  } else if (type == "Prepend") {
    check_keys(object, {"type", "prepend"}, place);
    out.kind = Kind::prepend;
    out.content = get_string(object, "prepend", place);
  } else if (type == "Replace") {
    check_keys(object, {"type", "pattern", "content"}, place);
    out.kind = Kind::replace;
    out.pattern = TextPattern::from_json(get(object, "pattern", place), place.in("pattern"));
    out.content = get_string(object, "content", place);
  } else if (type == "Strip") {
    check_keys(object, {"type", "strip_left", "strip_right"}, place);
    out.kind = Kind::strip;
    out.left = get_bool_or(object, "strip_left", true, place);
    out.right = get_bool_or(object, "strip_right", true, place);
  } else if (type == "Precompiled") {
    check_keys(object, {"type", "precompiled_charsmap"}, place);
    out.kind = Kind::character_map;
    const Place at = place.in("precompiled_charsmap");
    out.map = std::make_shared<const CharacterMap>(CharacterMap::from_base64(get_string(object, "precompiled_charsmap", place), at));
  } else {
    fail_unknown(place, "normalizer", type);
  }
  return out;
}

// One byte, such as the space that becomes U+2581, without a call for each match.
static std::string replace_byte(char byte, std::string_view content, std::string_view text) {
  auto count = static_cast<size_t>(std::count(text.begin(), text.end(), byte));
  std::string out(text.size() - count + count * content.size(), '\0');
  char* to = out.data();
  for (char c : text) {
    if (c != byte) *to++ = c;
    else to = std::copy(content.begin(), content.end(), to);
  }
  return out;
}

std::string replace_all(const TextPattern& pattern, std::string_view content, std::string_view text) {
  if (pattern.literal_text().size() == 1) return replace_byte(pattern.literal_text()[0], content, text);
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  size_t last = 0;
  pattern.each_match(text, [&](size_t begin, size_t end) {
    out.append(text.substr(last, begin - last)).append(content);
    last = end;
  });
  out.append(text.substr(last));
  return out;
}

static std::string strip_spaces(const std::string& text, bool left, bool right) {
  size_t begin = 0, end = text.size();
  for (size_t at = 0; left && at < text.size();) {
    if (!is_space(next_char(text, at))) break;
    begin = at;
  }
  while (right && end > begin) {
    char32_t c = last_char(std::string_view(text).substr(0, end));
    if (!is_space(c)) break;
    end -= c < 0x80 ? 1 : c < 0x800 ? 2 : 3;  // every space is below U+10000
  }
  return text.substr(begin, end - begin);
}

std::string normalize(const Normalizer& normalizer, std::string text) {
  switch (normalizer.kind) {
    case Normalizer::Kind::none: break;
    case Normalizer::Kind::sequence:
      for (const Normalizer& step : normalizer.steps) text = normalize(step, std::move(text));
      break;
    case Normalizer::Kind::unicode: return unicode_normal(text, normalizer.form);
    case Normalizer::Kind::lowercase: return lower_case(text);
    case Normalizer::Kind::prepend:
      if (!text.empty()) text.insert(0, normalizer.content);
      break;
    case Normalizer::Kind::replace: return replace_all(normalizer.pattern, normalizer.content, text);
    case Normalizer::Kind::strip: return strip_spaces(text, normalizer.left, normalizer.right);
    case Normalizer::Kind::strip_accents: {
      std::string out;
      for (size_t at = 0; at < text.size();)
        if (char32_t c = next_char(text, at); !is_mark(c)) append_char(out, c);
      return out;
    }
    case Normalizer::Kind::byte_level: {
      std::string out;
      for (char c : text) out += byte_to_printable(static_cast<unsigned char>(c));
      return out;
    }
    case Normalizer::Kind::character_map: return normalizer.map->apply(text);
  }
  return text;
}

}  // namespace loraine::tokens
