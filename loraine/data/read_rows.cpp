// Reads JSON lists and JSON lines, row by row, and turns each into a conversation or token ids. Called by dataset.cpp through rows.h.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
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

// Line and column of the first mistake, found by a second parser that keeps positions.
std::string where_broken(std::string_view text, const std::string& fallback) {
  struct Listener : nlohmann::json_sax<nlohmann::json> {
    size_t byte = 0;
    std::string what;
    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_object(size_t) override { return true; }
    bool key(string_t&) override { return true; }
    bool end_object() override { return true; }
    bool start_array(size_t) override { return true; }
    bool end_array() override { return true; }
    bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
      byte = position;
      return false;
    }
  } listener;
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &listener) || listener.byte == 0) return fallback;
  const auto before = text.substr(0, std::min(listener.byte - 1, text.size()));
  const auto last_newline = before.rfind('\n');
  return fmt::format("line {}, column {}", 1 + std::count(before.begin(), before.end(), '\n'),
                     before.size() - (last_newline == std::string_view::npos ? 0 : last_newline + 1) + 1);
}

struct RowReader {
  const DatasetInfo& info;
  std::optional<int64_t> limit;
  bool skip_bad_rows;
  std::vector<Row> rows;

  bool full() const { return limit && static_cast<int64_t>(rows.size()) >= *limit; }

  void add(const std::string& file, int64_t number, bool lines, const std::function<dom::element()>& element) {
    Row row;
    row.file = file;
    row.number = number;
    row.lines = lines;
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

  void read_list(const std::string& file, const simdjson::padded_string& bytes, size_t start) {
    dom::parser parser;
    dom::element document;
    if (const auto code = parser.parse(bytes.data() + start, bytes.size() - start, false).get(document))
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}, {}: not valid JSON: {}", file, where_broken({bytes.data() + start, bytes.size() - start}, "somewhere"),
                              simdjson::error_message(code)),
                  "correct the file; nothing was read");
    int64_t number = 0;
    for (const dom::element element : document.get_array()) {
      if (full()) return;
      add(file, ++number, false, [&] { return element; });
    }
  }

  void read_lines(const std::string& file, const simdjson::padded_string& bytes, size_t start) {
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
      add(file, number, true, [&] {  // the parser may look at the bytes behind the line: they are the next line or padding
        dom::element element;
        if (const auto code = parser.parse(begin, length, false).get(element)) {
          const std::string place = where_broken(line, "");
          throw Error(
              ErrorKind::bad_data,
              fmt::format("not valid JSON{}: {}", place.empty() ? "" : place.substr(place.find(',')), simdjson::error_message(code)),
              "each line must hold one whole JSON object");
        }
        return element;
      });
    }
  }
};

}  // namespace

std::vector<Row> read_rows(const DatasetInfo& info, std::optional<int64_t> limit, bool skip_bad_rows) {
  RowReader reader{info, limit, skip_bad_rows, {}};
  for (const std::string& file : files_of(info)) {
    if (reader.full()) break;
    const auto bytes = load(file);
    const std::string_view text(bytes.data(), bytes.size());
    const size_t start = text.substr(0, 3) == "\xef\xbb\xbf" ? 3 : 0;
    const size_t first = text.find_first_not_of(" \t\r\n", start);
    if (first != std::string_view::npos && text[first] == '[' && fs::path(file).extension() == ".json")
      reader.read_list(file, bytes, start);
    else reader.read_lines(file, bytes, start);
  }
  return std::move(reader.rows);
}

}  // namespace loraine
