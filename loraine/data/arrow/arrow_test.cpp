// Recorded streams of pyarrow (tests/golden/make_arrow_cases.py), what is written here read back, and bytes that are damaged everywhere.
#include "loraine/data/arrow/arrow.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "loraine/core/error.h"
#include "loraine/data/arrow/arrow_writer.h"

namespace loraine::arrow_test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

const fs::path kCases = fs::path(LORAINE_SOURCE_DIR) / "tests/golden/arrow";

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

std::vector<Json> rows_of(const std::string& file) {
  std::vector<Json> rows;
  read_arrow(file, [&](const std::string& row) {
    rows.push_back(Json::parse(row));
    return true;
  });
  return rows;
}

TEST(Arrow, RecordedFiles) {
  int files = 0;
  for (const char* name : {"stream", "legacy", "file", "zstd"}) {
    ++files;
    const std::vector<Json> rows = rows_of(bytes_of(kCases / (std::string(name) + ".arrow")));
    std::istringstream wanted(bytes_of(kCases / "rows.jsonl"));
    size_t i = 0;
    for (std::string line; std::getline(wanted, line); ++i) {
      ASSERT_LT(i, rows.size()) << name;
      EXPECT_EQ(rows[i], Json::parse(line)) << name << " row " << i;
    }
    EXPECT_EQ(rows.size(), i) << name;
  }
  EXPECT_EQ(files, 4);
  EXPECT_TRUE(rows_of(bytes_of(kCases / "empty.arrow")).empty());
}

TEST(Arrow, WhatIsNotReadIsNamed) {
  for (const auto& [name, word] :
       std::vector<std::pair<std::string, std::string>>{{"lz4", "LZ4"}, {"dictionary", "dictionary"}, {"union", "type"}}) {
    try {
      rows_of(bytes_of(kCases / (name + ".refused")));
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, ErrorKind::bad_data);
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
      EXPECT_FALSE(error.hint.empty());
    }
  }
}

std::string written(int rows) {
  std::string out;
  ArrowWriter writer({{"ids", ArrowType::int32_list},
                      {"mask", ArrowType::int8_list},
                      {"labels", ArrowType::int64_list},
                      {"tag", ArrowType::boolean},
                      {"images", ArrowType::null}},
                     "{}", [&](std::string_view bytes) { out += bytes; });
  for (int i = 0; i < rows; ++i) {
    writer.add(0, std::vector<int32_t>(static_cast<size_t>(i % 7), i));
    writer.add(1, std::vector<int32_t>{1, 1});
    writer.add(2, std::vector<int32_t>{-100, i});
    writer.add(3, i % 3 == 0);
    writer.end_row();
  }
  writer.finish();
  return out;
}

TEST(Arrow, WhatIsWrittenIsRead) {
  const std::vector<Json> rows = rows_of(written(2500));  // three batches
  ASSERT_EQ(rows.size(), 2500u);
  for (int i = 0; i < 2500; ++i)
    EXPECT_EQ(rows[static_cast<size_t>(i)], (Json{{"ids", std::vector<int>(static_cast<size_t>(i % 7), i)},
                                                  {"mask", {1, 1}},
                                                  {"labels", {-100, i}},
                                                  {"tag", i % 3 == 0},
                                                  {"images", nullptr}}));
  EXPECT_TRUE(rows_of(written(0)).empty());
}

// Every cut and many changed bytes: rows or a refusal, nothing else.
TEST(Arrow, DamagedBytes) {
  int refused = 0;
  const auto attempt = [&](const std::string& bytes) {
    try {
      read_arrow(bytes, [](const std::string&) { return true; });
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, ErrorKind::bad_data) << error.what();
      ++refused;
    }
  };
  std::mt19937 random(1);
  for (const char* name : {"stream.arrow", "zstd.arrow", "file.arrow"}) {
    const std::string whole = bytes_of(kCases / name);
    for (size_t size = 0; size < whole.size(); size += 7) attempt(whole.substr(0, size));
    for (int i = 0; i < 4000; ++i) {
      std::string bytes = whole;
      for (int changes = 0; changes < 3; ++changes) bytes[random() % bytes.size()] = static_cast<char>(random());
      attempt(bytes);
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace loraine::arrow_test
