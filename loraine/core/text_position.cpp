// Counts lines and characters up to a byte. Called through text_position.h.
#include "loraine/core/text_position.h"

#include <fmt/format.h>

#include <algorithm>

namespace loraine {

std::string TextPosition::text() const { return fmt::format("line {}, column {}", line, column); }

TextPosition text_position(std::string_view text, size_t byte) {
  const auto before = text.substr(0, std::min(byte, text.size()));
  const size_t newline = before.rfind('\n');
  const auto line = newline == std::string_view::npos ? before : before.substr(newline + 1);
  const auto starts = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; };
  return {1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n')),
          1 + static_cast<size_t>(std::count_if(line.begin(), line.end(), starts))};
}

}  // namespace loraine
