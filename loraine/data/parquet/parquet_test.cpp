// Recorded files of pyarrow (tests/golden/make_parquet_cases.py): every row as pyarrow reads it. And bytes that are damaged everywhere.
#include "loraine/data/parquet/parquet.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "loraine/core/error.h"
#include "loraine/data/parquet/codecs.h"

namespace loraine::parquet_test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

const fs::path kCases = fs::path(LORAINE_SOURCE_DIR) / "tests/golden/parquet";

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

std::vector<Json> rows_of(const std::string& file) {
  std::vector<Json> rows;
  read_parquet(file, [&](const std::string& row) {
    rows.push_back(Json::parse(row));
    return true;
  });
  return rows;
}

// pyarrow gives a map as a list of pairs.
Json with_maps(Json value) {
  for (auto& [key, entries] : value.items())
    if (key == "m" && entries.is_array())
      for (Json& pair : entries)
        if (pair.is_array()) pair = Json{{"key", pair[0]}, {"value", pair[1]}};
  return value;
}

TEST(Parquet, RecordedFiles) {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(kCases)) {
    if (entry.path().extension() != ".parquet") continue;
    ++files;
    const std::vector<Json> rows = rows_of(bytes_of(entry.path()));
    const fs::path own = fs::path(entry.path()).replace_extension(".jsonl");
    std::istringstream wanted(bytes_of(fs::exists(own) ? own : kCases / "rows.jsonl"));
    size_t i = 0;
    for (std::string line; std::getline(wanted, line); ++i) {
      ASSERT_LT(i, rows.size()) << entry.path();
      EXPECT_EQ(rows[i].dump(), with_maps(Json::parse(line)).dump()) << entry.path() << " row " << i;
    }
    EXPECT_EQ(i, rows.size()) << entry.path();
  }
  EXPECT_EQ(files, 17);
}

TEST(Parquet, StopsWhereItIsTold) {
  int rows = 0;
  read_parquet(bytes_of(kCases / "snappy_v1.parquet"), [&](const std::string&) { return ++rows < 30; });
  EXPECT_EQ(rows, 30);
}

// Each file cut anywhere and with any byte changed: rows or a refusal, nothing else.
TEST(Parquet, DamagedFiles) {
  std::mt19937 draw(7);
  int refused = 0, read = 0;
  for (const char* name : {"none_v1", "none_v2", "snappy_v1", "lz4_v2", "zstd_v1", "gzip_v2", "plain", "large_types", "delta_byte_array",
                           "delta_length_byte_array", "delta_numbers"}) {
    const std::string whole = bytes_of(kCases / (std::string(name) + ".parquet"));
    for (int i = 0; i < 150; ++i) {
      std::string bad = whole;
      if (i % 5 == 0) bad.resize(draw() % whole.size());
      else
        for (int k = 0; k <= i % 3; ++k) bad[draw() % bad.size()] = static_cast<char>(draw());
      try {
        rows_of(bad);
        ++read;
      } catch (const Error& e) {
        EXPECT_EQ(e.kind, ErrorKind::bad_data) << e.what();
        ++refused;
      } catch (const Json::parse_error&) { ++refused; }  // bytes of a text that are no UTF-8: the row's reader says so
    }
  }
  EXPECT_GT(refused, 300);
  EXPECT_GT(read, 50);
}

TEST(Parquet, Refusals) {
  const auto refusal = [](const std::string& bytes) -> std::string {
    try {
      rows_of(bytes);
    } catch (const Error& e) { return e.what(); }
    return "read";
  };
  EXPECT_EQ(refusal("PK"), "not a Parquet file");
  EXPECT_EQ(refusal("PARE" + std::string(20, 'x')), "an encrypted Parquet file");
  const std::string whole = bytes_of(kCases / "none_v1.parquet");
  EXPECT_NE(refusal(whole.substr(0, whole.size() / 2)).find("was it copied whole?"), std::string::npos);
}

// Blocks as the formats' documents describe them.
TEST(Codecs, Blocks) {
  using parquet::unpack;
  const auto bytes = [](std::initializer_list<int> list) {
    std::string out;
    for (const int byte : list) out += static_cast<char>(byte);
    return out;
  };
  // Snappy: 10 bytes, a literal of 2, a copy of 8 from 2 back.
  EXPECT_EQ(unpack(1, bytes({10, 1 << 2, 'a', 'b', (8 - 4) << 2 | 1, 2}), 10), "ababababab");
  EXPECT_EQ(unpack(1, bytes({10, 1 << 2, 'a', 'b', (8 - 1) << 2 | 2, 2, 0}), 10), "ababababab");
  // LZ4: a literal of 2, a copy of 15 + 4 + 1 from 2 back, a literal of 1.
  EXPECT_EQ(unpack(7, bytes({0x2f, 'a', 'b', 2, 0, 1, 0x10, 'x'}), 23),
            "ababababababababababab"
            "x");
  for (const std::string& bad :
       {bytes({10, 1 << 2, 'a'}), bytes({10, 1 << 2, 'a', 'b', 4 << 2 | 1, 3}), bytes({9, 1 << 2, 'a', 'b', 4 << 2 | 1, 2}),
        bytes({10, 1 << 2, 'a', 'b', 4 << 2 | 1, 0}), bytes({0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), std::string()})
    EXPECT_THROW(unpack(1, bad, 10), Error);
  for (const std::string& bad :
       {bytes({0x2f, 'a', 'b', 3, 0, 1}), bytes({0xf0}), bytes({0x2f, 'a', 'b', 2, 0, 255}), bytes({0x20, 'a', 'b', 'c'})})
    EXPECT_THROW(unpack(7, bad, 23), Error);
  EXPECT_THROW(unpack(4, "x", 1), Error);
  EXPECT_THROW(unpack(0, "xy", 1), Error);
}

}  // namespace
}  // namespace loraine::parquet_test
