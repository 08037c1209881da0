// UTF-8 by code points: walking, finding, stripping. Used everywhere in the Jinja engine.
#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "loraine/text/jinja/value.h"

namespace loraine::jinja {

int64_t count_code_points(std::string_view text) {
  int64_t n = 0;
  for (char c : text) n += (c & 0xc0) != 0x80;
  return n;
}

std::vector<std::string_view> split_code_points(std::string_view text) {
  charge_bytes(static_cast<int64_t>(text.size() * sizeof(std::string_view)));
  std::vector<std::string_view> out;
  out.reserve(static_cast<size_t>(count_code_points(text)));
  for (std::string_view c : CodePoints(text)) out.push_back(c);
  return out;
}

char32_t decode(std::string_view s) {
  auto b = [&](size_t k) { return static_cast<char32_t>(static_cast<unsigned char>(s[k])); };
  if (s.size() == 2) return (b(0) & 0x1f) << 6 | (b(1) & 0x3f);
  if (s.size() == 3) return (b(0) & 0x0f) << 12 | (b(1) & 0x3f) << 6 | (b(2) & 0x3f);
  if (s.size() == 4) return (b(0) & 0x07) << 18 | (b(1) & 0x3f) << 12 | (b(2) & 0x3f) << 6 | (b(3) & 0x3f);
  return s.empty() ? 0 : b(0);
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) out += static_cast<char>(c);
  else if (c < 0x800) (out += static_cast<char>(0xc0 | c >> 6)) += static_cast<char>(0x80 | (c & 0x3f));
  else if (c < 0x10000)
    ((out += static_cast<char>(0xe0 | c >> 12)) += static_cast<char>(0x80 | (c >> 6 & 0x3f))) += static_cast<char>(0x80 | (c & 0x3f));
  else
    (((out += static_cast<char>(0xf0 | c >> 18)) += static_cast<char>(0x80 | (c >> 12 & 0x3f))) +=
     static_cast<char>(0x80 | (c >> 6 & 0x3f))) += static_cast<char>(0x80 | (c & 0x3f));
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
         c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

std::string_view strip(std::string_view text, bool left, bool right, const std::string* characters) {
  std::unordered_set<std::string_view> set;
  if (characters)
    for (std::string_view c : CodePoints(*characters)) set.insert(c);
  charge(static_cast<int64_t>(text.size() / 64));
  auto drop = [&](std::string_view c) { return characters ? set.contains(c) : is_space(decode(c)); };
  while (left && !text.empty()) {
    size_t end = 1;
    while (end < text.size() && (text[end] & 0xc0) == 0x80 && end < 4) ++end;
    if (!drop(text.substr(0, end))) break;
    text.remove_prefix(end);
  }
  while (right && !text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && (text[begin] & 0xc0) == 0x80 && text.size() - begin < 4) --begin;
    if (!drop(text.substr(begin))) break;
    text.remove_suffix(text.size() - begin);
  }
  return text;
}

size_t find_text(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (part.size() < 8) return text.find(part, from);
  const void* hit = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return hit ? static_cast<size_t>(static_cast<const char*>(hit) - text.data()) : std::string_view::npos;
}

size_t find_last_text(std::string_view text, std::string_view part) {
  if (part.size() < 8) return text.rfind(part);
  std::string backwards(text.rbegin(), text.rend());
  charge(static_cast<int64_t>(text.size() / 64));
  size_t hit = find_text(backwards, std::string(part.rbegin(), part.rend()));
  return hit == std::string_view::npos ? hit : text.size() - hit - part.size();
}

}  // namespace loraine::jinja
