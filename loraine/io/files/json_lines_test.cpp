// Rows of JSONL files, and what is said of files that are not such.
#include "loraine/io/files/json_lines.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"

namespace loraine::json_lines_test {
namespace {

std::vector<JsonRow> rows_of(const std::string& text) {
  const auto file = std::filesystem::temp_directory_path() / ("loraine_lines_" + std::to_string(::getpid()) + ".jsonl");
  std::ofstream(file, std::ios::binary) << text;
  return read_json_rows(file.string());
}

std::string refusal_of(const std::string& text) {
  try {
    rows_of(text);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind, ErrorKind::bad_data);
    const std::string what = e.what();
    return what.substr(what.find(".jsonl"));
  }
  ADD_FAILURE() << text;
  return {};
}

TEST(JsonLines, Layouts) {
  for (const char* text : {"{\"a\":1}\n{\"a\":2}", "\xef\xbb\xbf{\"a\":1}\r\n\n{\"a\":2}\n", " [{\"a\":1},\n{\"a\":2}]"}) {
    const auto rows = rows_of(text);
    ASSERT_EQ(rows.size(), 2u) << text;
    EXPECT_EQ(rows[1].value["a"], 2);
  }
  EXPECT_TRUE(rows_of("\n{\"a\":1}")[0].place.ends_with(".jsonl, line 2"));
}

TEST(JsonLines, Refusals) {
  EXPECT_EQ(refusal_of("{\"a\":1}\n{\"a\": \"b"), ".jsonl, line 2, column 9: not valid JSON: it ends before it is complete");
  EXPECT_EQ(refusal_of("{\"a\": \"\xc3\xa9\xff\"}"), ".jsonl, line 1, column 9: not valid JSON: its bytes are not UTF-8");
  EXPECT_EQ(refusal_of("{\"a\": x}"), ".jsonl, line 1, column 7: not valid JSON");
  EXPECT_EQ(refusal_of("[{\"a\": 1},\n{\"a\"]"), ".jsonl, line 2, column 5: not valid JSON");
  EXPECT_EQ(refusal_of("7\n"), ".jsonl, line 1: not an object");
  EXPECT_EQ(refusal_of("\n"), ".jsonl: holds no row");
  EXPECT_EQ(refusal_of("\xff\xfe{"), ".jsonl: the text is UTF-16, and UTF-8 is expected");
}

}  // namespace
}  // namespace loraine::json_lines_test
