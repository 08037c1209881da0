// Strict reading of JSON.
#include "loraine/io/files/json_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::json_file_test {
namespace {

std::string folder() {
  static std::string made = [] {
    char name[] = "/tmp/loraine_json_file_XXXXXX";
    return std::string(mkdtemp(name));
  }();
  return made;
}

TEST(JsonFile, PositionsDuplicatesAndDepth) {
  std::string path = folder() + "/some.json";
  auto parse = [&](const std::string& text) -> std::string {
    write_file(path, text);
    try {
      return parse_json_file(path).dump();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, ErrorKind::bad_data);
      return error.what();
    }
  };
  EXPECT_EQ(parse("{\"a\": [1, {\"a\": 2.5}]}\n"), R"({"a":[1,{"a":2.5}]})");
  EXPECT_EQ(parse(R"({"a": [0.0, Infinity], "b \" NaN": "-Infinity", "c": NaN})"),
            R"({"a":[0.0,{"__float__":"Infinity"}],"b \" NaN":"-Infinity","c":{"__float__":"NaN"}})");
  EXPECT_NE(parse("{\n  \"a\": x\n}").find("line 2, column 8"), std::string::npos) << parse("{\n  \"a\": x\n}");
  EXPECT_NE(parse("{\"a\": 1,\n \"a\": 2}").find("line 2"), std::string::npos);
  EXPECT_NE(parse("{\"a\": 1,\n \"a\": 2}").find("twice"), std::string::npos);
  EXPECT_NE(parse(std::string(1000000, '[')).find("nested deeper"), std::string::npos);
  EXPECT_NE(parse("{} {}").find("line 1"), std::string::npos);
  EXPECT_NE(parse(std::string("{}\0x", 4)).find("NUL"), std::string::npos);
  EXPECT_NE(parse("{\"a\": \"\xff\"}").find("line 1, column 8: its bytes are not UTF-8"), std::string::npos) << parse("{\"a\": \"\xff\"}");
  EXPECT_NE(parse("").find("an empty file"), std::string::npos);
  EXPECT_NE(parse(std::string("\xff\xfe{\0", 4)).find("UTF-16"), std::string::npos);
  EXPECT_NE(parse("{\"\xff\":1}").find("line 1"), std::string::npos);
}

}  // namespace
}  // namespace loraine::json_file_test
