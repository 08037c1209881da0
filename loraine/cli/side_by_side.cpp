// Wrapping by the width that characters take on a screen.
#include "loraine/cli/side_by_side.h"

#include <algorithm>
#include <string_view>

#include "loraine/cli/screen_width.h"

namespace loraine {
namespace {

struct Line {
  std::string text;
  int width = 0;
};

// Lines of at most `width`: broken at spaces, inside a word only when it is longer than a line.
std::vector<Line> wrap(std::string_view text, int width) {
  std::vector<Line> lines(1);
  size_t space = std::string::npos;  // where the line's last space stands
  int before = 0;                    // the width up to it
  for (size_t at = 0; at < text.size();) {
    if (text[at] == '\n') {
      lines.emplace_back();
      space = std::string::npos;
      ++at;
      continue;
    }
    const bool tab_or_control = static_cast<unsigned char>(text[at]) < 32;
    const Glyph next = glyph(text, at);
    at += tab_or_control ? 1 : next.bytes.size();
    if (lines.back().width + next.width > width) {
      if (next.bytes == " ") {
        lines.emplace_back();
        space = std::string::npos;
        continue;
      }
      Line rest;
      if (space != std::string::npos) {
        rest = {lines.back().text.substr(space + 1), lines.back().width - before - 1};
        lines.back() = {lines.back().text.substr(0, space), before};
      }
      lines.push_back(std::move(rest));
      space = std::string::npos;
    }
    Line& line = lines.back();
    if (next.bytes == " ") space = line.text.size(), before = line.width;
    line.text += next.bytes;
    line.width += next.width;
  }
  return lines;
}

}  // namespace

std::string side_by_side(const std::vector<std::string>& names, const std::vector<std::string>& texts, int width) {
  const int count = static_cast<int>(texts.size()), column = std::max((width - 3 * (count - 1)) / std::max(count, 1), 4);
  std::vector<std::vector<Line>> columns;
  size_t height = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    std::vector<Line> lines = wrap(names[i], column);
    lines.resize(1);
    lines.push_back({std::string(static_cast<size_t>(column), '-'), column});
    for (Line& line : wrap(texts[i], column)) lines.push_back(std::move(line));
    height = std::max(height, lines.size());
    columns.push_back(std::move(lines));
  }
  std::string out;
  for (size_t row = 0; row < height; ++row) {
    std::string line;
    for (size_t i = 0; i < columns.size(); ++i) {
      const Line cell = row < columns[i].size() ? columns[i][row] : Line();
      line += (i ? " | " : "") + cell.text;
      line.append(static_cast<size_t>(std::max(column - cell.width, 0)), ' ');
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    out += line + "\n";
  }
  return out;
}

}  // namespace loraine
