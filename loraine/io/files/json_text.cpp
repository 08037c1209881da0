// JSON strings and the UTF-8 check.
#include "loraine/io/files/json_text.h"

#include <fmt/format.h>
#include <simdjson.h>

namespace loraine {

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        else out += c;
    }
  }
  out += '"';
}

bool is_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

std::string in_quotes(std::string_view text, size_t limit) {
  std::string out = "\"";
  for (unsigned char c : text.substr(0, limit)) {
    if (c < 0x20 || c == 0x7f || (c >= 0x80 && !is_utf8(text))) out += fmt::format("\\x{:02x}", c);
    else out += static_cast<char>(c);
  }
  while (text.size() > limit && out.size() > 1 && (static_cast<unsigned char>(out.back()) & 0xc0) == 0x80) out.pop_back();
  return out + (text.size() > limit ? "…\"" : "\"");
}

}  // namespace loraine
