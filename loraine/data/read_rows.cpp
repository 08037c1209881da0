// Reads JSON files row by row, whatever their layout, and turns each row into a conversation or token ids. Called by dataset.cpp through
// rows.h.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include "loraine/core/error.h"
#include "loraine/core/missing_file.h"
#include "loraine/core/text_position.h"
#include "loraine/data/formats.h"
#include "loraine/data/json_values.h"
#include "loraine/data/rows.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;
namespace dom = simdjson::dom;

constexpr uint64_t kFileLimit = 0xffffffffull - 4096;  // the JSON parser's own

std::vector<std::string> files_of(const DatasetInfo& info) {
  const fs::path path = fs::path(info.folder) / info.file_name;
  std::error_code failed;
  std::vector<std::string> files;
  if (fs::is_directory(path, failed)) {
    for (const auto& entry : fs::directory_iterator(path, failed))
      if (entry.is_regular_file(failed)) files.push_back(entry.path().string());
    std::sort(files.begin(), files.end());
    if (files.empty()) throw Error(ErrorKind::bad_data, fmt::format("{}: an empty folder", path.string()));
  } else if (fs::is_regular_file(path, failed)) {
    files.push_back(path.string());
  } else {
    throw MissingFile(fmt::format("{}: no such file (data set `{}`)", path.string(), info.name),
                      "correct file_name in dataset_info.json, or dataset_dir");
  }
  for (const auto& file : files) {
    const auto extension = fs::path(file).extension().string();
    if (extension != ".json" && extension != ".jsonl")
      throw Error(ErrorKind::bad_data, fmt::format("{}: `{}` files are not read; JSON and JSONL are", file, extension),
                  "convert it to JSONL, one row per line");
  }
  return files;
}

simdjson::padded_string load(const std::string& file) {
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  const auto size = in ? static_cast<int64_t>(in.tellg()) : int64_t{-1};
  if (size < 0) throw Error(ErrorKind::io, fmt::format("{}: cannot be read", file));
  if (static_cast<uint64_t>(size) > kFileLimit)
    throw Error(ErrorKind::bad_data, fmt::format("{}: {} bytes, at most 4 GiB per file are read", file, size),
                "split it and put the parts in a folder");
  simdjson::padded_string bytes(static_cast<size_t>(size));
  in.seekg(0);
  if (size > 0 && !in.read(bytes.data(), size)) throw Error(ErrorKind::io, fmt::format("{}: cannot be read", file));
  return bytes;
}

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
struct RowReader {
  const DatasetInfo& info;
  std::optional<int64_t> limit;
  std::vector<Row> rows = {};
  dom::parser parser{};
  std::shared_ptr<const std::string> file = {};
  std::string_view text = {};    // the file's bytes; the parser may look at those behind a value: they are the next or padding
  size_t at = 0;                 // everything before has been read
  int64_t line = 1, column = 1;  // of `at`, in characters

  bool full() const { return limit && static_cast<int64_t>(rows.size()) >= *limit; }

  void go_to(size_t to) {
    for (to = std::min(to, text.size()); at < to;) {
      const void* newline = std::memchr(text.data() + at, '\n', to - at);
      const size_t next = newline ? static_cast<size_t>(static_cast<const char*>(newline) - text.data()) + 1 : to;
      if (newline) ++line;
      column = newline ? 1 : column + static_cast<int64_t>(text_position(text.substr(at, next - at), next - at).column) - 1;
      at = next;
    }
  }
  void skip_space() { go_to(std::min(text.find_first_not_of(" \t\r\n", at), text.size())); }
  size_t line_end() const { return std::min(text.find('\n', at), text.size()); }

  // Into `element`, which lives until the next call.
  simdjson::error_code parse(std::string_view value, bool raw_controls, dom::element& element) {
    const auto code = parser.parse(value.data(), value.size(), false).get(element);
    if (!code || code == simdjson::UTF8_ERROR) return code;
    return parser.parse(plain_json(value, raw_controls)).get(element);
  }

  // A bad row stays, so that the numbers of the others stay too.
  template <class Fill>
  void add(int64_t number, const Fill& fill) {
    Row row;
    row.file = file;
    row.line = line;
    row.number = number;
    try {
      fill(row);
    } catch (const Error& e) {
      if (e.kind != ErrorKind::bad_data) throw Error(e.kind, row.place() + ": " + e.what(), e.hint);
      row.conversation = {};
      row.tokens.reset();
      row.dropped = e.what();
    }
    rows.push_back(std::move(row));
  }
  void add_parsed(int64_t number, dom::element element) {
    add(number, [&](Row& row) { fill_row(info, element, row); });
  }
  void add_broken(int64_t number, std::string_view value, bool raw_controls, simdjson::error_code code) {
    add(number, [&](Row& row) { throw broken_row(value, column, raw_controls, code, row); });
  }

  [[noreturn]] void refuse_list(const std::string& what) const {
    throw Error(ErrorKind::bad_data, fmt::format("{}, line {}, column {}: {}", *file, line, column, what),
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
      if (full()) return;
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
    for (skip_space(); at < text.size() && !full(); skip_space()) {
      const size_t newline = line_end();
      const std::string_view rest = text.substr(at, newline - at);
      dom::element element;
      if (at >= split && !parser.parse(rest.data(), rest.size(), false).get(element)) {
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

  void read(const std::string& path, std::string_view bytes) {
    file = std::make_shared<const std::string>(path);
    text = bytes;
    at = bytes.substr(0, 3) == "\xef\xbb\xbf" ? 3 : 0;
    line = column = 1;
    if (bytes.substr(0, 2) == "\xff\xfe" || bytes.substr(0, 2) == "\xfe\xff")
      throw Error(ErrorKind::bad_data, path + ": the text is UTF-16, and UTF-8 is expected", "save it as UTF-8");
    skip_space();
    if (at < text.size() && text[at] == '[') read_list();
    else read_values();
  }
};

}  // namespace

std::string Row::place() const {
  return fmt::format("{}, line {}{}{}", file ? *file : "data", line, column > 0 ? fmt::format(", column {}", column) : "",
                     number > 0 ? fmt::format(" (row {})", number) : "");
}

std::vector<Row> read_rows(const DatasetInfo& info, std::optional<int64_t> limit) {
  RowReader reader{info, limit};
  const std::vector<std::string> files = files_of(info);
  for (const std::string& file : files) {
    if (reader.full()) break;
    const auto bytes = load(file);
    reader.read(file, {bytes.data(), bytes.size()});
  }
  if (reader.rows.empty())
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: no rows (data set `{}`)", files.size() == 1 ? files[0] : (fs::path(info.folder) / info.file_name).string(),
                            info.name),
                "was it written whole? A data file holds a JSON list, or objects one after another; or leave the set out");
  return std::move(reader.rows);
}

}  // namespace loraine
