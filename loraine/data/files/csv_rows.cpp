// Records to JSON objects, which the layouts of rows are made from. Called through csv_rows.h.
#include "loraine/data/files/csv_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/data/files/json_values.h"

namespace loraine {
namespace {

// A cell that holds JSON text; alone, so that it cannot bring fields of its own into the row.
void append_json_cell(std::string& out, const std::string& cell, const std::string& column) {
  simdjson::dom::parser parser;
  simdjson::dom::element element;
  if (const auto code = parser.parse(cell).get(element))
    throw Error(ErrorKind::bad_data, fmt::format("field `{}`: not valid JSON: {}", column, simdjson::error_message(code)));
  out += simdjson::minify(element);
}

struct CsvReader {
  std::string_view text;
  char separator;
  const std::string& file;
  size_t at = 0;
  int64_t line = 1;

  bool at_line_end() const { return text[at] == '\n' || text[at] == '\r'; }
  void skip_line_end() {
    at += text.substr(at, 2) == "\r\n" ? 2 : 1;
    ++line;
  }
  void skip_empty_lines() {
    while (at < text.size() && at_line_end()) skip_line_end();
  }

  // The text between quotes; `at` is behind the opening one.
  void quoted(std::string& cell) {
    const int64_t opened = line;
    for (;; ++at) {
      const size_t quote = text.find('"', at);
      if (quote == text.npos)
        throw Error(ErrorKind::bad_data, fmt::format("{}, line {}: a quote opens here and never closes", file, opened),
                    "a quote within a quoted text is written twice: \"\"");
      const std::string_view part = text.substr(at, quote - at);
      for (size_t i = 0; i < part.size(); ++i)
        line += part[i] == '\n' || (part[i] == '\r' && (i + 1 == part.size() || part[i + 1] != '\n'));
      cell += part;
      at = quote + 1;
      if (at >= text.size() || text[at] != '"') return;
      cell += '"';
    }
  }

  // One record, at a line that is not empty; behind it `at` is at the next line. `mistake`: what breaks the rules in it.
  std::vector<std::string> record(std::string& mistake) {
    std::vector<std::string> cells(1);
    bool closed = false;  // the cell's quotes have been closed
    while (at < text.size() && !at_line_end()) {
      std::string& cell = cells.back();
      const char c = text[at++];
      if (c == separator) {
        cells.emplace_back();
        closed = false;
      } else if (c == '"' && cell.empty() && !closed) {
        quoted(cell);
        closed = true;
      } else {
        if (closed && mistake.empty())
          mistake =
              fmt::format("cell {}: text behind the closing quote; a quote within a quoted text is written twice: \"\"", cells.size());
        cell += c;
      }
    }
    if (at < text.size()) skip_line_end();
    return cells;
  }
};

std::vector<std::string> heading(CsvReader& reader) {
  std::string mistake;
  const std::vector<std::string> names = reader.record(mistake);
  const auto refuse = [&](const std::string& what, const std::string& hint) {
    throw Error(ErrorKind::bad_data, fmt::format("{}, line 1: {}", reader.file, what), hint);
  };
  if (!mistake.empty()) refuse(mistake, "the first line holds the names of the columns");
  for (size_t i = 0; i < names.size(); ++i)
    if (!names[i].empty() && std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
                                 names.begin() + static_cast<std::ptrdiff_t>(i))
      refuse(fmt::format("two columns are called `{}`", names[i]), "give each its own name");
  if (names.size() == 1 && reader.separator == ',' && names[0].find_first_of(";\t") != std::string::npos)
    refuse("one column, whose name holds semicolons or tabs; the separator of CSV is the comma",
           "save it with commas, or, with tabs, under a name that ends in .tsv");
  return names;
}

// The record as a JSON object.
std::string row_text(const std::vector<std::string>& names, const std::vector<std::string>& cells, const CsvFormat& format) {
  std::string json = "{";
  for (size_t i = 0; i < cells.size(); ++i) {
    if (names[i].empty()) continue;
    if (json.size() > 1) json += ',';
    append_json_text(json, names[i]);
    json += ':';
    const bool is_json = std::find(format.json_columns.begin(), format.json_columns.end(), names[i]) != format.json_columns.end();
    if (cells[i].empty()) json += "null";
    else if (is_json) append_json_cell(json, cells[i], names[i]);
    else append_json_text(json, cells[i]);
  }
  return json + "}";
}

}  // namespace

void read_csv_rows(std::string_view text, const CsvFormat& format, RowCollector& collector) {
  CsvReader reader{text, format.separator, *collector.file};
  reader.skip_empty_lines();
  if (reader.at >= text.size()) return;
  const std::vector<std::string> names = heading(reader);
  for (reader.skip_empty_lines(); reader.at < text.size() && !collector.full(); reader.skip_empty_lines()) {
    if (collector.passed) collector.passed(text.data() + reader.at);
    const int64_t line = reader.line;
    std::string mistake;
    const std::vector<std::string> cells = reader.record(mistake);
    if (mistake.empty() && cells.size() > names.size())
      mistake = fmt::format("{} cells, and the heading names {} columns; a text that holds a comma must stand in quotes", cells.size(),
                            names.size());
    const auto bad = [&](const std::string& why) { collector.add(line, 0, [&](Row&) { throw Error(ErrorKind::bad_data, why); }); };
    if (!mistake.empty()) {
      bad(mistake);
      continue;
    }
    try {
      collector.add_text(line, 0, row_text(names, cells, format));
    } catch (const Error& e) { bad(e.what()); }
  }
}

void read_text_rows(std::string_view text, RowCollector& collector) {
  std::string json;
  int64_t line = 1;
  for (size_t at = 0; at < text.size() && !collector.full(); ++line) {
    const size_t end = std::min(text.find_first_of("\r\n", at), text.size());
    if (collector.passed) collector.passed(text.data() + at);
    json = "{\"text\":";
    append_json_text(json, text.substr(at, end - at));
    collector.add_text(line, 0, json + "}");
    at = end + (text.substr(end, 2) == "\r\n" ? 2 : 1);
  }
}

}  // namespace loraine
