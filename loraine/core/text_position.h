// Line and column of a byte in a text, for errors about files. Called by every reader of text files.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace loraine {

struct TextPosition {
  size_t line = 1, column = 1;  // column in characters, not bytes
  std::string text() const;     // "line 3, column 7"
};
TextPosition text_position(std::string_view text, size_t byte);

}  // namespace loraine
