// Reads JSON lists and JSON lines, row by row, and turns each into a conversation or token ids. Called by dataset.cpp through rows.h.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/core/text_position.h"
#include "loraine/data/formats.h"
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
    throw Error(ErrorKind::bad_data, fmt::format("{}: no such file (data set `{}`)", path.string(), info.name),
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

// The first mistake, found by a second parser that keeps positions: its place, and the field before it.
struct Mistake {
  TextPosition position;
  std::string field;
};

std::optional<Mistake> find_mistake(std::string_view text) {
  struct Listener : nlohmann::json_sax<nlohmann::json> {
    size_t byte = 0;
    std::string field;
    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_object(size_t) override { return true; }
    bool key(string_t& name) override {
      field = name.substr(0, 60);
      return true;
    }
    bool end_object() override { return true; }
    bool start_array(size_t) override { return true; }
    bool end_array() override { return true; }
    bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
      byte = position;
      return false;
    }
  } listener;
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &listener) || listener.byte == 0) return std::nullopt;
  return Mistake{text_position(text, listener.byte - 1), listener.field};
}

std::string broken_text(const std::optional<Mistake>& mistake, simdjson::error_code code) {
  const bool field = mistake && !mistake->field.empty();
  return fmt::format("not valid JSON{}: {}", field ? fmt::format(" at or behind field `{}`", mistake->field) : "",
                     simdjson::error_message(code));
}

// The line on which each element of a JSON list begins. The list has been parsed already, so only strings and brackets matter.
std::vector<int64_t> lines_of_rows(std::string_view text) {
  std::vector<int64_t> lines;
  int64_t line = 1;
  int depth = 0;
  bool quoted = false, expects = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') ++line;
    if (quoted) {
      if (c == '\\') ++i;
      else quoted = c != '"';
      continue;
    }
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') continue;
    if (c == ']' && depth == 1) break;
    if (expects) lines.push_back(line);
    expects = false;
    if (c == '"') quoted = true;
    else if (c == '[' || c == '{') expects = ++depth == 1;
    else if (c == ']' || c == '}') --depth;
    else if (c == ',') expects = depth == 1;
  }
  return lines;
}

struct RowReader {
  const DatasetInfo& info;
  std::optional<int64_t> limit;
  bool skip_bad_rows;
  std::vector<Row> rows;

  bool full() const { return limit && static_cast<int64_t>(rows.size()) >= *limit; }

  template <class Element>
  void add(const std::shared_ptr<const std::string>& file, int64_t line, int64_t number, const Element& element) {
    Row row;
    row.file = file;
    row.line = line;
    row.number = number;
    try {
      fill_row(info, element(), row);
    } catch (const Error& e) {
      if (!skip_bad_rows || e.kind != ErrorKind::bad_data) throw Error(e.kind, row.place() + ": " + e.what(), e.hint);
      row.conversation = {};
      row.tokens.reset();
      row.dropped = e.what();
    }
    rows.push_back(std::move(row));
  }

  void read_list(const std::shared_ptr<const std::string>& file, const simdjson::padded_string& bytes, size_t start) {
    const std::string_view text(bytes.data() + start, bytes.size() - start);
    dom::parser parser;
    dom::element document;
    if (const auto code = parser.parse(text.data(), text.size(), false).get(document)) {
      const auto mistake = find_mistake(text);
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}{}: {}", *file, mistake ? ", " + mistake->position.text() : "", broken_text(mistake, code)),
                  "correct the file; nothing of it was read");
    }
    const auto lines = lines_of_rows(text);
    size_t row = 0;
    for (const dom::element element : document.get_array()) {
      if (full()) return;
      add(file, row < lines.size() ? lines[row] : 0, static_cast<int64_t>(row + 1), [&] { return element; });
      ++row;
    }
  }

  void read_lines(const std::shared_ptr<const std::string>& file, const simdjson::padded_string& bytes, size_t start) {
    dom::parser parser;
    int64_t number = 0;
    for (size_t at = start; at < bytes.size() && !full();) {
      ++number;
      const char* begin = bytes.data() + at;
      const void* newline = std::memchr(begin, '\n', bytes.size() - at);
      const size_t length = newline ? static_cast<size_t>(static_cast<const char*>(newline) - begin) : bytes.size() - at;
      at += length + 1;
      const std::string_view line(begin, length);
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      add(file, number, 0, [&] {  // the parser may look at the bytes behind the line: they are the next line or padding
        dom::element element;
        if (const auto code = parser.parse(begin, length, false).get(element)) {
          const auto mistake = find_mistake(line);
          const std::string column = mistake ? fmt::format("column {}: ", mistake->position.column) : "";
          throw Error(ErrorKind::bad_data, column + broken_text(mistake, code), "each line must hold one whole JSON object");
        }
        return element;
      });
    }
  }
};

}  // namespace

std::string Row::place() const {
  return fmt::format("{}, line {}{}", file ? *file : "data", line, number > 0 ? fmt::format(" (row {})", number) : "");
}

std::vector<Row> read_rows(const DatasetInfo& info, std::optional<int64_t> limit, bool skip_bad_rows) {
  RowReader reader{info, limit, skip_bad_rows, {}};
  for (const std::string& file : files_of(info)) {
    if (reader.full()) break;
    const auto bytes = load(file);
    const auto name = std::make_shared<const std::string>(file);
    const std::string_view text(bytes.data(), bytes.size());
    const size_t start = text.substr(0, 3) == "\xef\xbb\xbf" ? 3 : 0;
    const size_t first = text.find_first_not_of(" \t\r\n", start);
    if (first != std::string_view::npos && text[first] == '[' && fs::path(file).extension() == ".json")
      reader.read_list(name, bytes, start);
    else reader.read_lines(name, bytes, start);
  }
  return std::move(reader.rows);
}

}  // namespace loraine
