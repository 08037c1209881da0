// Line by line, or one list.
#include "loraine/eval/json_lines.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine {
namespace {

nlohmann::ordered_json parse(std::string_view text, const std::string& place) {
  nlohmann::ordered_json value = nlohmann::ordered_json::parse(text, nullptr, false);
  if (value.is_discarded()) throw Error(ErrorKind::bad_data, place + ": not valid JSON", "each line must hold one whole JSON object");
  return value;
}

}  // namespace

std::vector<JsonRow> read_json_rows(const std::string& file) {
  const std::string text = read_file(file);
  std::vector<JsonRow> rows;
  if (const size_t first = text.find_first_not_of(" \t\r\n"); file.ends_with(".json") && first != std::string::npos && text[first] == '[') {
    int64_t number = 0;
    for (auto& value : parse(text, file)) rows.push_back({std::move(value), fmt::format("{}, row {}", file, ++number)});
  } else {
    int64_t line = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      const std::string_view one = std::string_view(text).substr(at, end - at);
      const std::string place = fmt::format("{}, line {}", file, ++line);
      if (one.find_first_not_of(" \t\r") != std::string_view::npos) rows.push_back({parse(one, place), place});
      at = end + 1;
    }
  }
  for (const JsonRow& row : rows)
    if (!row.value.is_object()) throw Error(ErrorKind::bad_data, row.place + ": not an object");
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
