// Line by line, or one list.
#include "loraine/io/files/json_lines.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "loraine/core/error.h"
#include "loraine/core/text_position.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

// `line`: where the text begins in the file.
nlohmann::ordered_json parse(std::string_view text, const std::string& file, size_t line) {
  try {
    return nlohmann::ordered_json::parse(text);
  } catch (const nlohmann::json::parse_error& e) {
    const size_t byte = e.byte > 0 ? e.byte - 1 : 0;
    TextPosition position = text_position(text, byte);
    position.line += line - 1;
    const bool ended = byte >= text.size();
    throw Error(
        ErrorKind::bad_data,
        fmt::format("{}, {}: not valid JSON{}", file, position.text(),
                    ended           ? ": it ends before it is complete"
                    : is_utf8(text) ? ""
                                    : ": its bytes are not UTF-8"),
        ended ? "was the file copied whole? Each line must hold one whole JSON object" : "each line must hold one whole JSON object");
  }
}

}  // namespace

std::vector<JsonRow> read_json_rows(const std::string& file) {
  std::string text = read_file(file);
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    throw Error(ErrorKind::bad_data, file + ": the text is UTF-16, and UTF-8 is expected", "save it as UTF-8");
  std::vector<JsonRow> rows;
  if (const size_t first = text.find_first_not_of(" \t\r\n"); first != std::string::npos && text[first] == '[') {
    int64_t number = 0;
    for (auto& value : parse(text, file, 1)) rows.push_back({std::move(value), fmt::format("{}, row {}", file, ++number)});
  } else {
    size_t line = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      const std::string_view one = std::string_view(text).substr(at, end - at);
      ++line;
      if (one.find_first_not_of(" \t\r") != std::string_view::npos)
        rows.push_back({parse(one, file, line), fmt::format("{}, line {}", file, line)});
      at = end + 1;
    }
  }
  for (const JsonRow& row : rows)
    if (!row.value.is_object()) throw Error(ErrorKind::bad_data, row.place + ": not an object", "each row must be a JSON object");
  if (rows.empty()) throw Error(ErrorKind::bad_data, file + ": holds no row");
  return rows;
}

std::string text_field(const JsonRow& row, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto found = row.value.find(name);
    if (found == row.value.end() || found->is_null()) continue;
    if (!found->is_string()) throw Error(ErrorKind::bad_data, fmt::format("{}: `{}` is not a text", row.place, name));
    return found->get<std::string>();
  }
  throw Error(ErrorKind::bad_data, fmt::format("{}: has none of the fields {}", row.place, fmt::join(names, ", ")));
}

}  // namespace loraine
