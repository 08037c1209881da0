// Rows of stage decision, told by their fields: kinds, labels in every spelling, and what is refused of them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"
#include "loraine/data/rows/rows.h"

namespace loraine::decision_fields_test {
namespace {

// "kind question: names = label" of each row, or why it cannot be used.
std::vector<std::string> decisions_in(const std::string& text, const std::string& name = "d.jsonl", std::string* layout = nullptr) {
  const auto folder = std::filesystem::temp_directory_path() / ("loraine_decisions_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / name, std::ios::binary) << text;
  DatasetInfo info;
  info.name = name;
  info.file_name = (folder / name).string();
  info.recognise = true;
  info.stage = DataStage::decisions;
  std::vector<std::string> found;
  for (const Row& row : read_rows(info, std::nullopt, layout)) {
    if (!row.dropped.empty()) {
      found.push_back(row.dropped);
      continue;
    }
    std::string all =
        row.conversation.messages.back().content + " " + "ycs"[static_cast<int>(row.decision->kind)] + row.decision->question + ":";
    for (const std::string& one : row.decision->names) all += " " + one;
    found.push_back(all + " = " + row.decision->names[static_cast<size_t>(row.decision->label)]);
  }
  std::filesystem::remove_all(folder);
  return found;
}

std::string one(const std::string& row) { return decisions_in(row).at(0); }

TEST(DecisionFields, Kinds) {
  EXPECT_EQ(one(R"({"text": "t", "choices": ["x", "z"], "label": "z"})"), "t c: x z = z");
  EXPECT_EQ(one(R"({"text": "t", "choices": ["x", "z"], "label": 0})"), "t c: x z = x");
  EXPECT_EQ(one(R"({"text": "t", "label": true})"), "t y: yes no = yes");
  EXPECT_EQ(one(R"({"text": "t", "choices": ["No", "Yes"], "label": 0})"), "t y: yes no = no");
  EXPECT_EQ(one(R"({"text": "t", "choices": ["No", "Yes"], "label": "Yes"})"), "t y: yes no = yes");
  EXPECT_EQ(one(R"({"text": "t", "choices": [false, true], "label": false})"), "t y: yes no = no");
  EXPECT_EQ(one(R"({"text": "t", "choices": [1, 2.5, 4], "label": 2.5})"), "t s: 1 2.5 4 = 2.5");
  EXPECT_EQ(one(R"({"text": "t", "choices": {"from": -1, "to": 0, "step": 0.5}, "label": "-0.5"})"), "t s: -1 -0.5 0 = -0.5");
  EXPECT_EQ(one(R"({"messages": [{"role": "user", "content": "m"}], "question": "Q?", "choices": ["x", "z"], "label": "x"})"),
            "m cQ?: x z = x");
  EXPECT_EQ(one(R"({"question": "t", "choices": ["x", "z"], "label": "x"})"), "t c: x z = x");
}

TEST(DecisionFields, LayoutsAreTold) {
  std::string layout;
  const std::string talk =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}], "choices": [1, 2], "label": 2})";
  EXPECT_EQ(decisions_in(talk, "d.jsonl", &layout), std::vector<std::string>{"c s: 1 2 = 2"});
  EXPECT_NE(layout.find("`label` among `choices`"), std::string::npos) << layout;
  EXPECT_EQ(
      decisions_in("text,choices,label\na,\"[\"\"x\"\", \"\"z\"\"]\",z\nb,\"[1, 2]\",2\nc,,true\n", "d.csv"),
      (std::vector<std::string>{"a c: x z = z", "b s: 1 2 = 2",
                                "field `choices`: absent: a list of what may be answered is expected, or a label that is true or false"}));
  for (const char* bad :
       {R"({"text": "t", "choices": ["x", "z"]})", R"({"text": "t", "label": "x"})", R"({"choices": ["x", "z"], "label": "x"})",
        R"({"title": "t", "body": "u", "choices": ["x", "z"], "label": "x"})"})
    EXPECT_THROW(decisions_in(bad), Error) << bad;
}

TEST(DecisionFields, BadRowsSayWhy) {
  const std::string good = R"({"text": "t", "choices": ["x", "z"], "label": "x"})"
                           "\n";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("choices": ["x", "z"])", "absent"},
      {R"("choices": ["x", "z"], "label": null)", "absent"},
      {R"("choices": ["x", "z"], "label": "y")", "none of the 2 choices: x, z"},
      {R"("choices": ["x", "z"], "label": 2)", "none of"},
      {R"("choices": ["x", "z"], "label": -1)", "none of"},
      {R"("choices": ["x"], "label": "x")", "1 choices"},
      {R"("choices": [], "label": "x")", "0 choices"},
      {R"("choices": ["x", "x"], "label": "x")", "twice"},
      {R"("choices": ["x", ""], "label": "x")", "empty"},
      {R"("choices": ["x", 1], "label": "x")", "all texts"},
      {R"("choices": [1, "x"], "label": 1)", "all texts"},
      {R"("choices": [true, true], "label": true)", "[true, false]"},
      {R"("choices": [2, 1], "label": 1)", "lowest first"},
      {R"("choices": [1, 2], "label": 3)", "none of"},
      {R"("choices": {"from": 1}, "label": 1)", "`to`"},
      {R"("choices": {"from": 1, "to": 1}, "label": 1)", "equal distances"},
      {R"("choices": {"from": 1, "to": 900}, "label": 1)", "equal distances"},
      {R"("choices": {"from": 1, "to": 2, "step": 0}, "label": 1)", "equal distances"},
      {R"("choices": "x, z", "label": "x")", "where a list"},
      {R"("choices": ["x", "z"], "label": "x", "label": "z")", "twice"}};
  for (const auto& [fields, why] : cases) {
    const std::string found = decisions_in(good + R"({"text": "t", )" + fields + "}\n").at(1);
    EXPECT_NE(found.find(why), std::string::npos) << fields << ": " << found;
  }
}

}  // namespace
}  // namespace loraine::decision_fields_test
