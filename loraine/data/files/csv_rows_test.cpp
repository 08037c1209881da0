// CSV and text files, plain and compressed; where pandas and the text loader of datasets say what is right, it stands beside the case.
#include "loraine/data/files/csv_rows.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>

#include "loraine/data/files/load_file.h"

namespace loraine::csv_rows_test {
namespace {

using Strings = std::vector<std::string>;

// Each row as JSON, behind its line; or why it is bad.
Strings rows_of(const std::string& text, CsvFormat format = {}, bool lines = false) {
  Strings found, bad;
  RowCollector collector{[&](simdjson::dom::element element, Row& row) {
                           found.push_back(std::to_string(row.line) + " " + std::string(simdjson::minify(element)));
                         },
                         [&](Row&& row) {
                           if (!row.dropped.empty()) bad.push_back(std::to_string(row.line) + " bad: " + row.dropped);
                           return true;
                         }};
  collector.file = std::make_shared<const std::string>("d.csv");
  if (lines) read_text_rows(text, collector);
  else read_csv_rows(text, format, collector);
  found.insert(found.end(), bad.begin(), bad.end());
  return found;
}

std::string refusal_of(const std::string& text) {
  try {
    rows_of(text);
  } catch (const Error& e) { return e.what(); }
  return "none";
}

TEST(CsvRows, Records) {
  const Strings one = {R"(2 {"a":"1","b":"x"})"};
  for (const char* end : {"\n", "\r\n", "\r"}) {
    EXPECT_EQ(rows_of(std::string("a,b") + end + "1,x" + end), one);
    EXPECT_EQ(rows_of(std::string("a,b") + end + "1,x"), one);
    EXPECT_EQ(rows_of(std::string("a,b") + end + "\"1\",\"x\"" + end + end), one);
  }
  EXPECT_EQ(rows_of("a,b\n\"fo\"\"rty\"\"-two\",\"one, two\"\n"), Strings{R"(2 {"a":"fo\"rty\"-two","b":"one, two"})"});
  EXPECT_EQ(rows_of("a,b\n\"x\r\ny\n\",z\n1,2\n"), (Strings{R"(2 {"a":"x\r\ny\n","b":"z"})", R"(5 {"a":"1","b":"2"})"}));
  EXPECT_EQ(rows_of("a,b\n,\n\"\",x\n"), (Strings{R"(2 {"a":null,"b":null})", R"(3 {"a":null,"b":"x"})"}));  // pandas: both are NaN
  EXPECT_EQ(rows_of("a,b\n1\n"), Strings{R"(2 {"a":"1"})"});
  EXPECT_EQ(rows_of("a,,b\n1,2,3\n"), Strings{R"(2 {"a":"1","b":"3"})"});
  EXPECT_EQ(rows_of("a\n5\" disk\nNA\n007\n"), (Strings{R"(2 {"a":"5\" disk"})", R"(3 {"a":"NA"})", R"(4 {"a":"007"})"}));
  EXPECT_EQ(rows_of("\n\na\n\n1\n"), Strings{R"(5 {"a":"1"})"});
  EXPECT_EQ(rows_of("a\tb\n1,5\tx\n", {'\t', {}}), Strings{R"(2 {"a":"1,5","b":"x"})"});
  EXPECT_EQ(rows_of("m,b\n\"[1, {\"\"k\"\": \"\"v\"\"}]\",x\n", {',', {"m"}}), Strings{R"(2 {"m":[1,{"k":"v"}],"b":"x"})"});
  EXPECT_TRUE(rows_of("").empty());
  EXPECT_TRUE(rows_of("a,b\n").empty());
}

TEST(CsvRows, BadRecords) {
  const auto bad = [](const std::string& record, const std::string& why, const CsvFormat& format = {}) {
    const Strings rows = rows_of("a,b\n" + record + "\n3,4\n", format);
    ASSERT_EQ(rows.size(), 2u) << record;
    EXPECT_EQ(rows[0][0], '3') << rows[0];
    EXPECT_NE(rows[1].find("2 bad: "), std::string::npos) << rows[1];
    EXPECT_NE(rows[1].find(why), std::string::npos) << rows[1];
  };
  bad("1,2,3", "3 cells, and the heading names 2 columns");
  bad("\"1\"x,2", "cell 1: text behind the closing quote");
  bad("1,\xb0\xa1", "not UTF-8");
  bad("[1,2", "not valid JSON", {',', {"b", "a"}});
  bad("\"1,\"\"x\"\":2\",3", "field `a`: not valid JSON", {',', {"a"}});
  EXPECT_EQ(refusal_of("a,b\n1,2\n\"open,4\n5,6\n"), "d.csv, line 3: a quote opens here and never closes");
  EXPECT_EQ(refusal_of("a,b,a\n1,2,3\n"), "d.csv, line 1: two columns are called `a`");
  EXPECT_NE(refusal_of("a;b\n1;2\n").find("semicolons"), std::string::npos);
}

// datasets' text loader: every kind of line end, empty lines kept.
TEST(TextRows, Lines) {
  EXPECT_EQ(rows_of("one\r\ntwo\n\nth\"ree", {}, true),
            (Strings{R"(1 {"text":"one"})", R"(2 {"text":"two"})", R"(3 {"text":""})", R"(4 {"text":"th\"ree"})"}));
  EXPECT_TRUE(rows_of("", {}, true).empty());
  EXPECT_NE(rows_of("a\xff\n", {}, true)[0].find("1 bad: not UTF-8"), std::string::npos);
}

struct File {
  std::filesystem::path path;
  File(const std::string& name, const std::string& bytes)
      : path(std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + name)) {
    std::ofstream(path, std::ios::binary) << bytes;
  }
  ~File() { std::filesystem::remove(path); }
};

std::string gzip(const std::string& text) {
  z_stream z{};
  deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(text.size() + 1000, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

TEST(LoadFile, Gzip) {
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += std::to_string(i * 7919 % 100'003) + ",";
  const auto loaded = [](const std::string& bytes) {
    const File file("d.json.gz", bytes);
    return std::string(LoadedFile(file.path.string()).text());
  };
  EXPECT_EQ(loaded(gzip(text)), text);
  EXPECT_EQ(loaded(gzip("one") + gzip(text) + gzip("")), "one" + text);  // members one after another
  EXPECT_EQ(loaded(gzip("one") + std::string(512, '\0')), "one");
  EXPECT_EQ(loaded(gzip("")), "");
  const std::string whole = gzip(text);
  std::string flipped = whole;
  flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 0x55);
  for (const std::string& bad : {whole.substr(0, whole.size() / 2), whole.substr(0, whole.size() - 3), whole + "tail", flipped,
                                 std::string("plain"), std::string(), whole.substr(0, 5)})
    EXPECT_THROW(loaded(bad), Error) << bad.size();
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

TEST(LoadFile, Zstd) {
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += std::to_string(i * 7919 % 100'003) + ",";
  const auto loaded = [](const std::string& bytes) {
    const File file("d.json.zst", bytes);
    return std::string(LoadedFile(file.path.string()).text());
  };
  const std::string whole = zstd(text);
  EXPECT_EQ(loaded(whole), text);
  EXPECT_EQ(loaded(zstd("one") + whole + zstd("")), "one" + text);
  EXPECT_EQ(loaded(zstd(std::string(1 << 20, 'a'))), std::string(1 << 20, 'a'));
  EXPECT_EQ(loaded(zstd("")), "");
  std::string flipped = whole;
  flipped[5] = static_cast<char>(flipped[5] ^ 0x55);
  for (const std::string& bad : {whole.substr(0, whole.size() / 2), whole.substr(0, whole.size() - 3), whole + "tail", flipped,
                                 std::string("plain"), std::string(), whole.substr(0, 3)})
    EXPECT_THROW(loaded(bad), Error) << bad.size();
}

TEST(LoadFile, Kinds) {
  EXPECT_EQ(file_kind("a/b.JSON"), FileKind::json);
  EXPECT_EQ(file_kind("b.jsonl.gz"), FileKind::json);
  EXPECT_EQ(file_kind("b.csv"), FileKind::csv);
  EXPECT_EQ(file_kind("b.txt.gz"), FileKind::text);
  EXPECT_EQ(file_kind("b.csv.zst"), FileKind::csv);
  EXPECT_EQ(file_kind("b.parquet"), FileKind::parquet);
  EXPECT_FALSE(file_kind("b.gz") || file_kind("json") || file_kind("b.json.xz") || file_kind("b.parquet.gz"));
}

}  // namespace
}  // namespace loraine::csv_rows_test
