// Rows of JSON files in every layout, and what Python writes beyond JSON; what datasets 4.0 makes of them stands beside the cases.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"
#include "loraine/data/files/json_values.h"
#include "loraine/data/rows/rows.h"

namespace loraine::read_rows_test {
namespace {

using Strings = std::vector<std::string>;

struct File {
  std::filesystem::path folder = std::filesystem::temp_directory_path() / ("loraine_rows_" + std::to_string(::getpid()));
  DatasetInfo info;
  explicit File(const std::string& text, const std::string& name = "d.json") {
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    std::ofstream(folder / name, std::ios::binary) << text;
    info.name = "d";
    info.folder = folder.string();
    info.file_name = name;
  }
  ~File() { std::filesystem::remove_all(folder); }
};

// "question > answer" of each row, or where a bad row stands and why.
Strings rows_of(const File& file, std::optional<int64_t> limit = std::nullopt) {
  Strings found;
  for (const Row& row : read_rows(file.info, limit)) {
    if (row.dropped.empty()) found.push_back(row.conversation.messages[0].content + " > " + row.conversation.messages.back().content);
    else found.push_back(row.place().substr(row.place().rfind('/') + 1) + ": " + row.dropped);
  }
  return found;
}

std::string refusal_of(const File& file) {
  try {
    const auto rows = read_rows(file.info, std::nullopt);
    ADD_FAILURE() << rows.size() << " rows";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind, ErrorKind::bad_data);
    return e.what();
  }
  return {};
}

std::string row(const std::string& question, const std::string& answer, const std::string& more = "") {
  return R"({"instruction":")" + question + R"(","output":")" + answer + "\"" + more + "}";
}

const std::string kIndented = "{\n \"instruction\": \"q\",\n \"output\": \"r\"\n}";

TEST(ReadRows, Layouts) {
  const Strings two = {"a > b", "q > r"};
  const std::string a = row("a", "b"), q = row("q", "r");
  for (const char* name : {"d.json", "d.jsonl"}) {
    EXPECT_EQ(rows_of(File("[" + a + "," + q + "]", name)), two);
    EXPECT_EQ(rows_of(File("\xef\xbb\xbf\r\n[\r\n " + a + " ,\r\n " + kIndented + "\r\n]\r\n", name)), two);
    EXPECT_EQ(rows_of(File(a + "\n" + q, name)), two);
    EXPECT_EQ(rows_of(File("\n" + a + "\r\n  \r\n" + q + "\r\n\n", name)), two);
    EXPECT_EQ(rows_of(File(a + " " + q, name)), two);
    EXPECT_EQ(rows_of(File(a + q, name)), two);
    EXPECT_EQ(rows_of(File(a + "\n" + kIndented + "\n" + a, name)), (Strings{"a > b", "q > r", "a > b"}));
    EXPECT_EQ(rows_of(File(kIndented + kIndented + "\n\n" + kIndented, name)), (Strings{"q > r", "q > r", "q > r"}));
    EXPECT_EQ(rows_of(File(kIndented, name)), Strings{"q > r"});
    EXPECT_EQ(rows_of(File("[" + a + "," + q + "," + a + "]", name), 2), two);
    EXPECT_EQ(rows_of(File(a + "\n" + q + "\n" + a, name), 2), two);
  }
}

TEST(ReadRows, WhatNobodyReadsHasNoSay) {
  const std::string more[] = {R"(,"s":NaN)",
                              R"(,"s":-Infinity)",
                              R"(,"s":123456789012345678901234567890)",
                              R"(,"s":-18446744073709551616)",
                              R"(,"s":1e999)",
                              R"(,"s":"\ud800")",
                              R"(,"s":"\udc00\ud83d")",
                              R"(,"s":{"k":[NaN,"\udfff",Infinity]})",
                              R"(,"\ud800":1)",
                              R"(,"s":1,"s":2)",
                              R"(,"s":{"k":1,"k":2})",
                              R"(,"s":"\u0000")"};
  for (const std::string& m : more) {
    EXPECT_EQ(rows_of(File(row("a", "b", m) + "\n" + row("q", "r"))), (Strings{"a > b", "q > r"})) << m;
    EXPECT_EQ(rows_of(File("[" + row("a", "b", m) + ",\n" + row("q", "r", m) + "]")), (Strings{"a > b", "q > r"})) << m;
  }
  EXPECT_EQ(rows_of(File(row("a", "b", R"(,"s":1)") + row("a", "b", R"(,"s":["x",{}])") + row("a", "b", R"(,"s":null)"))).size(), 3u);
  EXPECT_EQ(rows_of(File(row("a\\ud83d\\udc4d", "\\u00e9", R"(,"s":NaN)"))), Strings{"a\xf0\x9f\x91\x8d > \xc3\xa9"});
  EXPECT_EQ(rows_of(File("[{\"instruction\":\"a\n\tb\",\"output\":\"c\"}]")), Strings{"a\n\tb > c"});  // as Python's ujson
}

// The same in a column that is read: a hole is null, the rest is no text.
TEST(ReadRows, WhatIsReadMustBeJson) {
  const auto input = [](const std::string& value) { return rows_of(File("[" + row("a", "b", ",\n\"input\":" + value) + "]"))[0]; };
  EXPECT_EQ(input("NaN"), "a > b");
  EXPECT_EQ(input("Infinity"), "d.json, line 1 (row 1): field `input`: the number Infinity where a text is expected");
  EXPECT_EQ(input("1234567890123456789012"),
            "d.json, line 1 (row 1): field `input`: the number 1234567890123456789012 where a text is expected");
  EXPECT_NE(input(R"("x\ud800y")").find("field `input`: half a surrogate pair"), std::string::npos);
  EXPECT_NE(input(R"("\u0000")").find("field `input`: holds a NUL character"), std::string::npos);
  EXPECT_NE(input(R"([NaN])").find("field `input`: a list where a text is expected"), std::string::npos);
  EXPECT_EQ(rows_of(File(row("a", "b", R"(,"output":"c")")))[0], "d.json, line 1: field `output`: stands twice in one object");
  File tools(row("a", "b", R"(,"tools":[{"limit":NaN}])"));
  tools.info.columns.tools = "tools";
  EXPECT_NE(rows_of(tools)[0].find("field `tools`: the number NaN at /0/limit"), std::string::npos);
}

TEST(ReadRows, BrokenRowsAmongGoodOnes) {
  const std::string a = row("a", "b");
  const auto places = [](const Strings& rows) {
    Strings out;
    for (const std::string& r : rows) out.push_back(r.substr(0, r.find(": ")));
    return out;
  };
  for (const std::string& broken : {std::string("{\"instruction\": \"x"), std::string("{\"instruction\": \"x\","),
                                    std::string("{\"instruction\": [1, 2"), std::string("{\"instruction\":"), std::string("nonsense"),
                                    std::string("}"), std::string("{\"instruction\": x, \"output\": \"y\"}"), std::string("{")}) {
    const Strings found = places(rows_of(File(a + "\n" + broken + "\n" + a + "\n" + a + "\n")));
    EXPECT_EQ(found.size(), 4u) << broken;
    EXPECT_TRUE(found[1].starts_with("d.json, line 2, column ") || found[1].starts_with("d.json, line 3, column ")) << found[1];
  }
  EXPECT_EQ(places(rows_of(File("[" + a + ",\n{\"instruction\": \"a\",\n \"output\": x},\n" + a + "]"))),
            (Strings{"a > b", "d.json, line 3, column 12 (row 2)", "a > b"}));
  EXPECT_EQ(places(rows_of(File(kIndented + "\n{\n \"instruction\": \"a\",\n \"output\": \n" + kIndented + "\n" + a))),
            (Strings{"q > r", "d.json, line 5, column 2", "q > r", "a > b"}));
  EXPECT_EQ(places(rows_of(File(a + "\n{\"instruction\":\"\xc3\xa9\xff\",\"output\":\"b\"}\n" + a)))[1], "d.json, line 2, column 18");
}

TEST(ReadRows, BrokenFiles) {
  const std::string a = row("a", "b");
  const auto has = [](const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << text; };
  has(refusal_of(File("[" + a + ",\n{\"instruction\": \"x")), "d.json, line 2, column 1: the file ends within its list, in row 2");
  has(refusal_of(File("[" + a + ",\n" + a + "\n")), "d.json, line 3, column 1: the file ends before its list does");
  has(refusal_of(File("[" + a + ",\n" + a + "\n" + a + "]")), "d.json, line 3, column 1: `{` behind row 2 of the list");
  has(refusal_of(File("[" + a + "]\n[" + a + "]")), "d.json, line 2, column 1: something stands behind the end");
  has(refusal_of(File("[" + a + ",]")), "d.json, line 1, column");
  has(refusal_of(File("[")), "the file ends within its list");
  for (const char* empty : {"", "\n \n", "[]", " [ ] ", "\xef\xbb\xbf"}) has(refusal_of(File(empty)), "d.json: no rows (data set `d`)");
  has(refusal_of(File(std::string("\xff\xfe[\0", 4))), "UTF-16");
}

// Rows that are broken in every line, and values that never end, take time in proportion to the file.
TEST(ReadRows, ManyBrokenLines) {
  for (const char* line : {"[", "{", "{\"a\":", "x", "{\"instruction\":\"a\""}) {
    std::string text = "{\n";
    for (int i = 0; i < 20'000; ++i) text += std::string(line) + "\n";
    EXPECT_GE(rows_of(File(text)).size(), 1u) << line;
  }
}

TEST(ReadRows, BareTexts) {
  File file(R"(["one", "two"])");
  file.info.columns.prompt = "text";
  file.info.stage = DataStage::pretraining;
  const auto rows = read_rows(file.info, std::nullopt);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1].conversation.messages[0].content, "two");
  file.info.stage = DataStage::sft;
  EXPECT_FALSE(read_rows(file.info, std::nullopt)[0].dropped.empty());
}

TEST(JsonValues, Ends) {
  const auto end = [](const std::string& text, bool one_line = false) {
    const auto [byte, whole] = value_end(text, 0, one_line);
    return whole ? static_cast<int64_t>(byte) : -static_cast<int64_t>(byte);
  };
  EXPECT_EQ(end(R"({"a":"}\"","b":[1,{}]} x)"), 22);
  EXPECT_EQ(end("-1.5e3,"), 6);
  EXPECT_EQ(end("\"a\n\""), 4);
  EXPECT_EQ(end("\"a\n\"", true), 0);
  EXPECT_EQ(end("{\"a\":1\n{"), -7);
  EXPECT_EQ(end("{\"a\":1"), -6);
  EXPECT_EQ(end("]"), 0);
}

TEST(JsonValues, PlainSpelling) {
  EXPECT_EQ(plain_json(R"({"a":NaN,"b":[NaN],"c":9223372036854775807,"d":"\ud83d\udc4d"})", false),
            R"({"a":null,"b":["\u0000\u0000NaN"],"c":9223372036854775807,"d":"\ud83d\udc4d"})");
  EXPECT_EQ(plain_json(R"(["\ud800\n",18446744073709551616,-1e400,1e-400])", false),
            R"(["\u0000\ufffd\n","\u0000\u000018446744073709551616","\u0000\u0000-1e400",1e-400])");
  EXPECT_EQ(plain_json("[\"a\nb\"]", true), R"(["a\u000ab"])");
  EXPECT_EQ(plain_json("\"open", true), "\"open");
}

}  // namespace
}  // namespace loraine::read_rows_test
