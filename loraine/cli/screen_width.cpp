// See screen_width.h.
#include "loraine/cli/screen_width.h"

#include <utf8proc.h>

namespace loraine {

Glyph glyph(std::string_view text, size_t at) {
  utf8proc_int32_t code = 0;
  const auto* begin = reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at);
  const utf8proc_ssize_t n = utf8proc_iterate(begin, static_cast<utf8proc_ssize_t>(text.size() - at), &code);
  if (n <= 0) return {text.substr(at, 1), 1};
  if (code < 32 || code == 127) return {" ", 1};  // control characters would move the columns
  return {text.substr(at, static_cast<size_t>(n)), utf8proc_charwidth(code)};
}

size_t screen_width(std::string_view text) {
  size_t width = 0;
  for (size_t at = 0; at < text.size();) {
    const bool control = static_cast<unsigned char>(text[at]) < 32 || text[at] == 127;
    const Glyph next = glyph(text, at);
    width += static_cast<size_t>(next.width);
    at += control ? 1 : next.bytes.size();
  }
  return width;
}

}  // namespace loraine
