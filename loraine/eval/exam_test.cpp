// Examinations: prompts and results that LLaMA-Factory's Evaluator gave for small ones (tests/golden/make_exam_cases.py), CSV, bad files.
#include "loraine/eval/exam.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "loraine/eval/csv.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::exam_test {
namespace {

namespace fs = std::filesystem;
const std::string kExam = std::string(LORAINE_SOURCE_DIR) + "/tests/golden/eval/exam";
const std::string kModel = std::string(LORAINE_SOURCE_DIR) + "/../shared/golden/llamafactory/tiny_llama";

nlohmann::ordered_json cases() { return nlohmann::ordered_json::parse(read_file(kExam + "/cases.json")); }

ExamOptions options_of(const nlohmann::ordered_json& one) {
  return {.n_shot = one["n_shot"].get<int64_t>(), .batch_size = 3, .lang = one["lang"].get<std::string>(), .seed = 42};
}

TEST(Exam, AsksWhatLlamaFactoryAsks) {
  int asked = 0;
  const auto recorded = cases();
  for (const auto& one : recorded["cases"]) {
    const Exam exam = read_exam(one["task"], kExam);
    size_t next = 0, subject = 0;
    for (const auto& conversations : exam_conversations(exam, options_of(one))) {
      for (size_t i = 0; i < conversations.size(); ++i, ++next, ++asked) {
        std::vector<std::string> contents;
        for (const Message& message : conversations[i].messages) contents.push_back(message.content);
        contents.push_back(exam.subjects[subject].questions[i].answer);
        EXPECT_EQ(contents, one["prompts"][next].get<std::vector<std::string>>()) << one["task"] << " " << next;
      }
      ++subject;
    }
    EXPECT_EQ(next, one["prompts"].size()) << one["task"];
  }
  EXPECT_EQ(asked, 26);
}

TEST(Exam, AnswersAsLlamaFactoryDoes) {
  if (!fs::exists(kModel)) GTEST_SKIP() << "the model of the recorded cases is absent";
  TrainConfig config;
  config.model_name_or_path = kModel;
  const auto recorded = cases();
  config.template_name = recorded["template"].get<std::string>();
  const auto loaded = load_for_answers(config);
  for (const auto& one : recorded["cases"]) {
    EvalResult result;
    take_exam({*loaded}, read_exam(one["task"], kExam), options_of(one), result);
    ASSERT_EQ(result.files.size(), 2u);
    EXPECT_EQ(nlohmann::ordered_json::parse(result.files[0].second), one["results"]) << one["task"];
    EXPECT_EQ(result.files[1].second, one["log"].get<std::string>()) << one["task"];
  }
}

TEST(Exam, PartWithoutAnswersGivesLettersAndNoFigure) {
  const Exam exam = read_exam("ceval_test", kExam);
  EXPECT_EQ(exam.subjects[0].questions.size(), 4u);
  EXPECT_EQ(exam.subjects[0].questions[0].answer, "");
}

std::string error_of(const std::string& task, const std::string& folder) {
  try {
    read_exam(task, folder);
  } catch (const Error& error) { return error.what() + std::string(" | ") + error.hint; }
  return "no error";
}

TEST(Exam, WrongNamesAndFilesAreNamed) {
  EXPECT_NE(error_of("mmlu", kExam).find("not test, validation or train"), std::string::npos);
  EXPECT_NE(error_of("arc_test", kExam).find("no examination"), std::string::npos);
  EXPECT_NE(error_of("cmmlu_validation", kExam).find("no such part"), std::string::npos);
  const fs::path folder = fs::temp_directory_path() / ("loraine_exam_" + std::to_string(::getpid()));
  fs::create_directories(folder / "mmlu/data/test");
  fs::create_directories(folder / "mmlu/data/dev");
  std::ofstream(folder / "mmlu/mapping.json") << R"({"art": {"name": "art", "category": "Other"}})";
  EXPECT_NE(error_of("mmlu_test", folder.string()).find("what mmlu.zip holds"), std::string::npos);
  std::ofstream(folder / "mmlu/data/dev/art_dev.csv") << "q,a,b,c,d,A\n";
  std::ofstream(folder / "mmlu/data/test/art_test.csv") << "q,a,b,c,d,A\n\"two\nlines\",a,b,c,d,E\n";
  EXPECT_NE(error_of("mmlu_test", folder.string()).find("art_test.csv, line 2: the answer is `E`"), std::string::npos);
  std::ofstream(folder / "mmlu/data/test/art_test.csv") << "q,a,b\n";
  EXPECT_NE(error_of("mmlu_test", folder.string()).find("line 1: has 3 fields"), std::string::npos);
  fs::remove_all(folder);
}

TEST(Csv, QuotesLineEndsAndMistakes) {
  const auto rows = read_csv(
      "\xef\xbb\xbf"
      "a,\"b,\"\"c\"\"\r\nd\",\r\n\r\n\"\",x\n",
      "f.csv");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].fields, (std::vector<std::string>{"a", "b,\"c\"\r\nd", ""}));
  EXPECT_EQ(rows[1].fields, (std::vector<std::string>{"", "x"}));
  EXPECT_EQ(rows[1].line, 4);
  for (const char* bad : {"a,\"b\n", "\"a\"b,c\n", "\""}) EXPECT_THROW(read_csv(bad, "f.csv"), Error) << bad;
}

}  // namespace
}  // namespace loraine::exam_test
