// Reads data files row by row, whatever their kind, and turns each row into a conversation or token ids. Called by dataset.cpp through
// rows.h.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "loraine/core/error.h"
#include "loraine/core/missing_file.h"
#include "loraine/data/arrow/arrow.h"
#include "loraine/data/files/csv_rows.h"
#include "loraine/data/files/json_rows.h"
#include "loraine/data/files/load_file.h"
#include "loraine/data/files/repository_files.h"
#include "loraine/data/parquet/parquet.h"
#include "loraine/data/rows/formats.h"
#include "loraine/data/rows/recognise.h"
#include "loraine/data/rows/rows.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSampled = 200;  // rows by which a layout is recognised

// Files that lie beside data in a repository of them.
bool is_beside_data(const std::string& name) { return name.starts_with(".") || name.ends_with(".md") || name.starts_with("LICENSE"); }

std::vector<std::string> files_of(const DatasetInfo& info) {
  if (info.from_hub) return repository_files(info);
  const fs::path path = fs::path(info.folder) / info.file_name;
  std::error_code failed;
  std::vector<std::string> files;
  if (fs::is_directory(path, failed)) {
    if (fs::exists(path / "dataset_info.json", failed) && info.recognise)
      throw Error(ErrorKind::usage, fmt::format("dataset: {} is a folder of several data sets: it holds dataset_info.json", path.string()),
                  fmt::format("set dataset_dir to it and name one of its sets, or give the path of one file"));
    for (const auto& entry : fs::directory_iterator(path, failed))
      if (entry.is_regular_file(failed) && !is_beside_data(entry.path().filename().string())) files.push_back(entry.path().string());
    std::sort(files.begin(), files.end());
    if (files.empty())
      throw Error(ErrorKind::bad_data, fmt::format("{}: the folder holds no data file", path.string()),
                  "folders within it are not looked into; give the one that holds the files");
  } else if (fs::is_regular_file(path, failed)) {
    files.push_back(path.string());
  } else {
    throw MissingFile(fmt::format("{}: no such file (data set `{}`)", path.string(), info.name),
                      "correct file_name in dataset_info.json, or dataset_dir");
  }
  for (const auto& file : files)
    if (!file_kind(file))
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: `{}` files are not read; {} are", file, fs::path(file).extension().string(), kFileEndings),
                  "convert it to JSONL, one row per line");
  return files;
}

// Of a text file, what follows a byte order mark.
std::string_view content_of(std::string_view text, FileKind kind, const std::string& file) {
  if (kind == FileKind::parquet || kind == FileKind::arrow) return text;
  if (text.substr(0, 2) == "\xff\xfe" || text.substr(0, 2) == "\xfe\xff")
    throw Error(ErrorKind::bad_data, file + ": the text is UTF-16, and UTF-8 is expected", "save it as UTF-8");
  return text.substr(text.substr(0, 3) == "\xef\xbb\xbf" ? 3 : 0);
}

// Columns whose cells in a table are JSON text; those of tools may be text anyway.
std::vector<std::string> json_columns(const DatasetInfo& info) {
  if (info.formatting == Formatting::tokenized) return {info.columns.input_ids, info.columns.labels};
  std::vector<std::string> columns = {info.formatting == Formatting::alpaca ? info.columns.history : info.columns.messages};
  if (info.stage == DataStage::decisions) columns.push_back(info.columns.choices);
  return columns;
}

void read_binary_rows(FileKind kind, std::string_view bytes, RowCollector& collector) {
  int64_t number = 0;
  try {
    (kind == FileKind::arrow ? read_arrow : read_parquet)(bytes, [&](const std::string& json) {
      collector.add_text(0, ++number, json);
      return !collector.full();
    });
  } catch (const Error& e) {
    if (e.kind != ErrorKind::bad_data) throw;
    throw Error(e.kind, *collector.file + ": " + e.what(), e.hint.empty() ? "write it anew with pandas or pyarrow, or as JSONL" : e.hint);
  }
}

void read_file_rows(FileKind kind, std::string_view text, const std::vector<std::string>& json, RowCollector& collector) {
  switch (kind) {
    case FileKind::json: return read_json_rows(text, collector);
    case FileKind::csv: return read_csv_rows(text, {',', json}, collector);
    case FileKind::tsv: return read_csv_rows(text, {'\t', json}, collector);
    case FileKind::text: return read_text_rows(text, collector);
    case FileKind::parquet:
    case FileKind::arrow: return read_binary_rows(kind, text, collector);
  }
}

// The layout of a file of one's own, by its first rows.
DatasetInfo recognised(const DatasetInfo& info, FileKind kind, std::string_view text, const std::string& file, std::string* words) {
  RowSample sample;
  sample.cells = kind == FileKind::csv || kind == FileKind::tsv;
  std::optional<Row> first;
  const auto keep_first = [&](Row&& row) {
    if (!first) first = std::move(row);
    return true;
  };
  RowCollector collector{[&](simdjson::dom::element element, Row&) { sample.add(element); }, keep_first, kSampled};
  collector.file = std::make_shared<const std::string>(file);
  read_file_rows(kind, text, {}, collector);
  if (!first) return info;
  if (sample.rows.empty()) throw Error(ErrorKind::bad_data, first->place() + ": " + first->dropped, "correct the file");
  return recognise_rows(info, std::move(sample), words);
}

// A set named in dataset_info.json, of which every row would be refused for the same reason.
void check_answers(const DatasetInfo& info) {
  if (info.stage != DataStage::sft || info.formatting != Formatting::alpaca || !info.columns.response.empty()) return;
  throw Error(
      ErrorKind::usage,
      fmt::format("data set `{}`: its `columns` in dataset_info.json name no `response`: plain texts, which stage sft cannot train on",
                  info.name),
      "set stage: pt, or name the column of the answers");
}

}  // namespace

std::string Row::place() const {
  if (line == 0) return fmt::format("{}, row {}", file ? *file : "data", number);
  return fmt::format("{}, line {}{}{}", file ? *file : "data", line, column > 0 ? fmt::format(", column {}", column) : "",
                     number > 0 ? fmt::format(" (row {})", number) : "");
}

size_t Row::bytes() const {
  size_t sum = conversation.system.size() + conversation.tools.size() + (rejected ? rejected->content.size() : 0);
  for (const Message& message : conversation.messages) sum += message.content.size();
  return tokens ? sum + (tokens->input_ids.size() + tokens->labels.size()) * sizeof(int32_t) : sum;
}

void each_row(DatasetInfo info, std::optional<int64_t> limit, const std::function<bool(Row&&)>& take, std::string* layout) {
  const std::vector<std::string> files = files_of(info);
  RowCollector collector{[&](simdjson::dom::element element, Row& row) { fill_row(info, element, row); }, take, limit};
  for (const std::string& file : files) {
    if (collector.full()) break;
    LoadedFile bytes(file);
    const FileKind kind = *file_kind(file);
    const std::string_view text = content_of(bytes.text(), kind, file);
    if (info.recognise) info = recognised(info, kind, text, file, layout);
    check_answers(info);
    collector.file = std::make_shared<const std::string>(file);
    collector.passed = [&bytes](const char* place) { bytes.release_before(place); };
    read_file_rows(kind, text, json_columns(info), collector);
    bytes.check();
  }
  if (collector.count > 0) return;
  throw Error(ErrorKind::bad_data,
              fmt::format("{}: no rows (data set `{}`)", files.size() == 1 ? files[0] : (fs::path(info.folder) / info.file_name).string(),
                          info.name),
              "was it written whole? A data file holds rows: a JSON list or objects one after another, a CSV heading and records, lines of "
              "text; or leave the set out");
}

std::vector<Row> read_rows(DatasetInfo info, std::optional<int64_t> limit, std::string* layout) {
  std::vector<Row> rows;
  each_row(
      std::move(info), limit,
      [&](Row&& row) {
        rows.push_back(std::move(row));
        return true;
      },
      layout);
  return rows;
}

}  // namespace loraine
