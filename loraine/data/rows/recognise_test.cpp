// Layouts of files that nothing describes, by whole files; and what is said where they cannot be told.
#include "loraine/data/rows/recognise.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"

namespace loraine::recognise_test {
namespace {

struct Found {
  std::string layout, rows, error, hint;
  ErrorKind kind = ErrorKind::internal;
};

std::string row_text(const Row& row) {
  if (!row.dropped.empty()) return "bad: " + row.dropped;
  if (row.tokens) return std::to_string(row.tokens->input_ids.size()) + " ids";
  std::string text = row.conversation.system.empty() ? "" : "[" + row.conversation.system + "]";
  if (!row.conversation.tools.empty()) text += "{" + row.conversation.tools + "}";
  for (const Message& message : row.conversation.messages) text += "UAOF"[static_cast<int>(message.role)] + (":" + message.content) + " ";
  return text;
}

Found read(const std::string& text, const std::string& name = "d.jsonl", DataStage stage = DataStage::sft) {
  const auto folder = std::filesystem::temp_directory_path() / ("loraine_recognise_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / name, std::ios::binary) << text;
  DatasetInfo info;
  info.name = name;
  info.file_name = (folder / name).string();
  info.recognise = true;
  info.stage = stage;
  Found found;
  try {
    for (const Row& row : read_rows(info, std::nullopt, &found.layout)) found.rows += row_text(row) + "|";
  } catch (const Error& e) {
    found.error = e.what();
    found.hint = e.hint;
    found.kind = e.kind;
  }
  std::filesystem::remove_all(folder);
  return found;
}

struct Case {
  std::string row, layout, rows;
};

TEST(Recognise, Preferences) {
  const auto pairs = [](const std::string& text) { return read(text, "d.jsonl", DataStage::pairs); };
  Found found = pairs(R"({"question":"a","chosen":"b","rejected":"c"})");
  EXPECT_EQ(found.rows, "U:a A:b |") << found.error;
  EXPECT_NE(found.layout.find("`question` → `chosen` rather than `rejected`"), std::string::npos) << found.layout;
  found = pairs(
      R"({"messages":[{"role":"user","content":"a"}],"chosen":{"role":"assistant","content":"b"},"rejected":{"role":"assistant","content":"c"}})");
  EXPECT_EQ(found.kind, ErrorKind::bad_data);  // no answer says what answers are called
  found = pairs(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"x"},{"role":"user","content":"y"}],)"
                R"("chosen":{"role":"assistant","content":"b"},"rejected":{"role":"assistant","content":"c"}})");
  EXPECT_EQ(found.rows, "U:a A:x U:y A:b |") << found.error;
  found = read(R"({"prompt":"a","completion":"b","label":true})", "d.jsonl", DataStage::feedback);
  EXPECT_EQ(found.rows, "U:a A:b |") << found.error;
  EXPECT_EQ(read(R"({"prompt":"a","completion":"b"})", "d.jsonl", DataStage::feedback).kind, ErrorKind::bad_data);
  EXPECT_EQ(read(R"({"question":"a","chosen":"b","rejected":"c"})").kind, ErrorKind::usage);
}

TEST(Recognise, QuestionsAndAnswers) {
  const Case cases[] = {
      {R"({"instruction":"a","input":"b","output":"c"})", "`instruction` + `input` → `output`", "U:a\nb A:c |"},
      {R"({"instruction":"a","output":"c"})", "`instruction` → `output`", "U:a A:c |"},
      {R"({"instruction":"a","input":"b","output":"c","text":"abc"})", "`instruction` + `input` → `output`; not read: text",
       "U:a\nb A:c |"},
      {R"({"instruction":"a","context":"b","response":"c","category":"d"})", "`instruction` + `context` → `response`; not read: category",
       "U:a\nb A:c |"},
      {R"({"question":"a","answer":"c","id":7})", "`question` → `answer`; not read: id", "U:a A:c |"},
      {R"({"Question":"a","Answer":"c"})", "`Question` → `Answer`", "U:a A:c |"},
      {R"({"prompt":"a","completion":"c"})", "`prompt` → `completion`", "U:a A:c |"},
      {R"({"prompt":"a","response":"c"})", "`prompt` → `response`", "U:a A:c |"},
      {R"({"query":"a","response":"c"})", "`query` → `response`", "U:a A:c |"},
      {R"({"input":"a","output":"c"})", "`input` → `output`", "U:a A:c |"},
      {R"({"问题":"甲","回答":"乙"})", "`问题` → `回答`", "U:甲 A:乙 |"},
      {R"({"指令":"甲","输入":"乙","输出":"丙"})", "`指令` + `输入` → `输出`", "U:甲\n乙 A:丙 |"},
      {R"({"instruction":"a","input":"","output":"c","history":[["h","i"]],"system":"s"})",
       "`instruction` + `input` → `output`; also system, history", "[s]U:h A:i U:a A:c |"},
  };
  for (const Case& c : cases) {
    const Found found = read(c.row + "\n");
    EXPECT_EQ(found.layout, "d.jsonl: questions and answers: " + c.layout) << found.error;
    EXPECT_EQ(found.rows, c.rows);
  }
}

TEST(Recognise, Conversations) {
  const Case cases[] = {
      {R"({"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"c"}]})", "`conversations` (from and value: human, gpt)",
       "U:a A:c |"},
      {R"({"talk":[{"from":"system","value":"s"},{"from":"user","value":"a"},{"from":"assistant","value":"c"}],"id":"x"})",
       "`talk` (from and value: user, assistant); not read: id", "[s]U:a A:c |"},
      {R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"c"}]})",
       "`messages` (role and content: user, assistant)", "U:a A:c |"},
      {R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"c"}],"prompt":"a","source":"x"})",
       "`messages` (role and content: user, assistant); not read: prompt, source", "U:a A:c |"},
      {R"({"dialog":[{"role":"user","content":"a"},{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":"1"}}]},)"
       R"({"role":"tool","content":"r"},{"role":"assistant","content":"c"}],"tools":"[]"})",
       "`dialog` (role and content: user, assistant); also tools", "{[]}U:a F:[{\"name\": \"f\", \"arguments\": \"1\"}] O:r A:c |"},
  };
  for (const Case& c : cases) {
    const Found found = read("[" + c.row + "]", "d.json");
    EXPECT_EQ(found.layout, "d.json: conversations in " + c.layout) << found.error;
    EXPECT_EQ(found.rows, c.rows);
  }
}

TEST(Recognise, TablesAndTexts) {
  EXPECT_EQ(read("question,answer\r\na,c\r\n", "d.csv").rows, "U:a A:c |");
  EXPECT_EQ(read("question\tanswer\na, b\tc\n", "d.tsv").rows, "U:a, b A:c |");
  const std::string list = R"("[{""role"":""user"",""content"":""a""},{""role"":""assistant"",""content"":""c""}]")";
  const Found talk = read("id,messages\n1," + list + "\n2,\"[{\"\n", "d.csv");
  EXPECT_EQ(talk.rows.substr(0, 10), "") << "a cell that is no list makes a column of texts";
  EXPECT_NE(talk.error.find("`messages` (a text)"), std::string::npos) << talk.error;
  EXPECT_EQ(read("id,messages\n1," + list + "\n2," + list + "\n", "d.csv").rows, "U:a A:c |U:a A:c |");
  EXPECT_EQ(read("one\ntwo\n", "d.txt", DataStage::pretraining).rows, "U:one |U:two |");
  EXPECT_EQ(read(R"({"text":"one","id":1})", "d.json", DataStage::pretraining).layout, "d.json: plain texts in `text`; not read: id");
  EXPECT_EQ(read(R"({"body":"one","id":1})", "d.json", DataStage::pretraining).layout, "d.json: plain texts in `body`; not read: id");
  EXPECT_EQ(read(R"(["one","two"])", "d.json", DataStage::pretraining).rows, "U:one |U:two |");
  EXPECT_EQ(read(R"({"input_ids":[1,2],"labels":[-100,2]})").rows, "2 ids|");
}

// A row among the others that does not fit is a bad row; it does not make the layout unclear.
TEST(Recognise, BadRowsAmongGoodOnes) {
  const Found found = read("{\"question\":\"a\",\"answer\":\"c\"}\n{\"question\":\n{\"question\":\"a\"}\n");
  EXPECT_NE(found.rows.find("U:a A:c |bad: not valid JSON"), std::string::npos) << found.rows << found.error;
  EXPECT_NE(found.rows.find("bad: field `answer`: absent"), std::string::npos) << found.rows;
}

TEST(Recognise, WhatCannotBeTold) {
  const auto refused = [](const std::string& row, std::initializer_list<const char*> parts, ErrorKind kind = ErrorKind::bad_data) {
    const Found found = read(row);
    EXPECT_EQ(found.kind, kind) << row << found.rows;
    for (const char* part : parts) EXPECT_NE((found.error + "\n" + found.hint).find(part), std::string::npos) << found.error << found.hint;
  };
  refused(R"({"frage":"a","antwort":"b","nr":7})", {"`frage` (a text), `antwort` (a text), `nr` (a number)", R"({"d":{"file_name":")",
                                                    R"("columns":{"prompt":"frage","response":"antwort"})"});
  refused(R"({"question":"a","answer":7})", {"`answer` (a number)"});
  refused(R"({"question":"a","answer":"b","response":"c"})", {"`answer` and `response` may all be the answer"});
  refused(R"({"prompt":"a","question":"b","answer":"c"})", {"`question` and `prompt` may all be what is asked"});
  refused(R"({"x":[{"role":"a","content":"b"}]})", {"the roles in `x` are a", R"("role_tag":"role")"});
  refused(R"({"m":[{"role":"user","content":"a"},{"role":"human","content":"b"},{"role":"gpt","content":"c"}]})", {"both user and human"});
  refused(R"({"data":[{"question":"a"}]})", {"`data` (a list of objects with `question`)"});
  refused(R"({"prompt":"a","chosen":"b","rejected":"c"})", {"a ranking set"}, ErrorKind::usage);
  refused(R"({"text":"a"})", {"plain texts in `text`", "set stage: pt"}, ErrorKind::usage);
  refused("{", {"line 1", "not valid JSON"});
  EXPECT_EQ(read("", "d.json").error.substr(0, 1), "/");
}

}  // namespace
}  // namespace loraine::recognise_test
