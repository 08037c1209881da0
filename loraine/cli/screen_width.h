// How many columns of a terminal a text takes: wide characters (Chinese, most emoji) two, combining marks none. Used by tables, the
// progress bar and columns of answers.
#pragma once
#include <cstddef>
#include <string_view>

namespace loraine {

struct Glyph {
  std::string_view bytes;
  int width;
};
// The character of `text` at byte `at`; a byte that is no UTF-8 counts as one, a control character as a blank.
Glyph glyph(std::string_view text, size_t at);
size_t screen_width(std::string_view text);

}  // namespace loraine
