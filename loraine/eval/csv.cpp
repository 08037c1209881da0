// RFC 4180, one pass over the bytes.
#include "loraine/eval/csv.h"

#include <fmt/format.h>

#include "loraine/core/error.h"

namespace loraine {

std::vector<CsvRow> read_csv(std::string_view text, const std::string& file) {
  std::vector<CsvRow> rows;
  int64_t line = 1;
  size_t at = text.starts_with("\xef\xbb\xbf") ? 3 : 0;
  const auto fail = [&](int64_t where, const char* what) {
    throw Error(ErrorKind::bad_data, fmt::format("{}, line {}: {}", file, where, what),
                "write a quote inside a quoted field as two quotes");
  };
  while (at < text.size()) {
    CsvRow row;
    row.line = line;
    for (bool more = true; more;) {
      std::string field;
      if (at < text.size() && text[at] == '"') {
        const int64_t opened = line;
        for (++at;; ++at) {
          if (at >= text.size()) fail(opened, "a quote is opened and not closed");
          if (text[at] == '"' && at + 1 < text.size() && text[at + 1] == '"') ++at;
          else if (text[at] == '"') break;
          line += text[at] == '\n';
          field += text[at];
        }
        ++at;
        if (at < text.size() && text[at] != ',' && text[at] != '\n' && text[at] != '\r') fail(line, "text follows a closing quote");
      } else {
        while (at < text.size() && text[at] != ',' && text[at] != '\n' && text[at] != '\r') field += text[at++];
      }
      row.fields.push_back(std::move(field));
      more = at < text.size() && text[at] == ',';
      if (more) ++at;
    }
    if (at < text.size() && text[at] == '\r') ++at;
    if (at < text.size() && text[at] == '\n') ++at;
    ++line;
    if (row.fields.size() > 1 || !row.fields[0].empty()) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace loraine
