// A JSON list, an object per line, objects over several lines one after another. Called through json_rows.h.
#include "loraine/data/files/json_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "loraine/core/text_position.h"
#include "loraine/data/files/json_values.h"

namespace loraine {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kMostOfARow = 0xffffffffull - 4096;  // the parser's own limit

// A row that is no JSON: where in its text, which begins in `column`, and what the parser says.
Error broken_row(std::string_view value, int64_t column, bool raw_controls, simdjson::error_code code, Row& row) {
  std::string field;
  if (const auto mistake = find_json_mistake(value, raw_controls)) {
    const TextPosition position = text_position(value, mistake->byte);
    row.line += static_cast<int64_t>(position.line) - 1;
    row.column = static_cast<int64_t>(position.column) + (position.line == 1 ? column - 1 : 0);
    if (!mistake->field.empty()) field = fmt::format(" at or behind field `{}`", mistake->field);
  }
  return Error(ErrorKind::bad_data, fmt::format("not valid JSON{}: {}", field, simdjson::error_message(code)));
}

// Rows of one file in any of its layouts: a JSON list, an object per line, objects over several lines one after another.
struct JsonReader {
  RowCollector& collector;
  dom::parser parser{};
  std::string_view text = {};    // the file's bytes; the parser may look at those behind a value: they are the next or padding
  size_t at = 0;                 // everything before has been read
  int64_t line = 1, column = 1;  // of `at`, in characters

  void go_to(size_t to) {
    for (to = std::min(to, text.size()); at < to;) {
      const void* newline = std::memchr(text.data() + at, '\n', to - at);
      const size_t next = newline ? static_cast<size_t>(static_cast<const char*>(newline) - text.data()) + 1 : to;
      if (newline) ++line;
      column = newline ? 1 : column + static_cast<int64_t>(text_position(text.substr(at, next - at), next - at).column) - 1;
      at = next;
    }
  }
  void skip_space() {
    if (collector.passed) collector.passed(text.data() + at);
    go_to(std::min(text.find_first_not_of(" \t\r\n", at), text.size()));
  }
  size_t line_end() const { return std::min(text.find('\n', at), text.size()); }

  // Into `element`, which lives until the next call.
  simdjson::error_code parse(std::string_view value, bool raw_controls, dom::element& element) {
    // The parser looks a little way beyond a value; where the bytes end there, it takes a copy.
    const bool room = static_cast<size_t>(text.data() + text.size() - value.data()) >= value.size() + simdjson::SIMDJSON_PADDING;
    if (value.size() > kMostOfARow) return simdjson::CAPACITY;
    const auto code = parser.parse(value.data(), value.size(), !room).get(element);
    if (!code || code == simdjson::UTF8_ERROR) return code;
    return parser.parse(plain_json(value, raw_controls)).get(element);
  }

  // Of a line that may hold no whole value, which then is no mistake yet.
  simdjson::error_code parse_line(std::string_view line_text, dom::element& element) {
    const bool room = static_cast<size_t>(text.data() + text.size() - line_text.data()) >= line_text.size() + simdjson::SIMDJSON_PADDING;
    if (line_text.size() > kMostOfARow) return simdjson::CAPACITY;
    return parser.parse(line_text.data(), line_text.size(), !room).get(element);
  }

  void add_parsed(int64_t number, dom::element element) {
    collector.add(line, number, [&](Row& row) { collector.use(element, row); });
  }
  void add_broken(int64_t number, std::string_view value, bool raw_controls, simdjson::error_code code) {
    collector.add(line, number, [&](Row& row) { throw broken_row(value, column, raw_controls, code, row); });
  }

  [[noreturn]] void refuse_list(const std::string& what) const {
    throw Error(ErrorKind::bad_data, fmt::format("{}, line {}, column {}: {}", *collector.file, line, column, what),
                "correct the file; nothing of it was read");
  }

  void read_list() {
    go_to(at + 1);
    for (int64_t number = 1;; ++number) {
      skip_space();
      if (at < text.size() && text[at] == ']' && number == 1) break;
      const auto [end, complete] = value_end(text, at, false);
      if (!complete) refuse_cut_list(number);
      const std::string_view value = text.substr(at, end - at);
      dom::element element;
      const auto code = parse(value, true, element);
      if (!code) add_parsed(number, element);
      else add_broken(number, value, true, code);
      if (collector.full()) return;
      go_to(end);
      skip_space();
      if (at < text.size() && text[at] == ']') break;
      if (at >= text.size()) refuse_list("the file ends before its list does; was it copied whole?");
      if (text[at] != ',') refuse_list(fmt::format("`{}` behind row {} of the list, where , or ] is expected", text[at], number));
      go_to(at + 1);
    }
    go_to(at + 1);
    skip_space();
    if (at < text.size()) refuse_list("something stands behind the end of the list; a file holds one list, or rows one after another");
  }

  [[noreturn]] void refuse_cut_list(int64_t number) {
    const std::string_view value = text.substr(at);
    const auto mistake = find_json_mistake(value, true);
    if (value.empty() || !mistake || at + mistake->byte >= text.size())
      refuse_list(fmt::format("the file ends within its list, in row {}, which begins here; was it copied whole?", number));
    go_to(at + mistake->byte);
    refuse_list(fmt::format("not valid JSON in row {} of the list{}", number,
                            mistake->field.empty() ? "" : fmt::format(", at or behind field `{}`", mistake->field)));
  }

  // Line by line where a line holds a row; else value by value.
  void read_values() {
    bool spans = false;  // rows over several lines have been seen
    size_t split = 0;    // up to here a line holds several values
    size_t in_vain = 0;  // bytes looked at behind lines that turned out broken
    for (skip_space(); at < text.size() && !collector.full(); skip_space()) {
      const size_t newline = line_end();
      const std::string_view rest = text.substr(at, newline - at);
      dom::element element;
      if (at >= split && !parse_line(rest, element)) {
        add_parsed(0, element);
        go_to(newline);
        continue;
      }
      const auto [end, complete] = value_end(in_vain > text.size() ? text.substr(0, newline) : text, at, true);
      const std::string_view value = complete ? text.substr(at, end - at) : rest;
      if (const auto code = parse(value, false, element)) add_broken(0, value, false, code);
      else add_parsed(0, element);
      if (complete) {
        spans = spans || end > newline;
        split = newline;
        go_to(end);
      } else {
        in_vain += end > newline ? end - newline : 0;
        go_to(newline);
        if (spans) go_to_next_object();
      }
    }
  }

  // Behind a broken row of several lines: to a line that opens one.
  void go_to_next_object() {
    const size_t next = text.find("\n{", at);
    go_to(next == std::string_view::npos ? text.size() : next + 1);
  }

  void read() {
    skip_space();
    if (at < text.size() && text[at] == '[') read_list();
    else read_values();
  }
};

}  // namespace

void read_json_rows(std::string_view text, RowCollector& collector) {
  JsonReader reader{collector};
  reader.text = text;
  reader.read();
}

}  // namespace loraine
