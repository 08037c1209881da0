// LLaMA-Factory's examinations: MMLU, C-Eval and CMMLU from their published CSV files, asked with its prompts. Called by evaluate.cpp.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "loraine/eval/figures.h"
#include "loraine/eval/subject.h"

namespace loraine {

struct ExamQuestion {
  std::string question, choices[4], answer;  // answer: A to D, or empty where the split has none
};

struct ExamSubject {
  std::string id, name, category;  // keys, `name` and `category` of mapping.json
  std::vector<ExamQuestion> shots, questions;
};

struct Exam {
  std::string task;  // "mmlu_test"
  std::vector<ExamSubject> subjects;
};

// task: mmlu, ceval or cmmlu, then _ and test, validation or train. task_dir/NAME holds mapping.json and the unpacked archive:
//   mmlu   [data/]test/SUBJECT_test.csv, val/, dev/    no heading: question, A, B, C, D, answer
//   ceval  test/SUBJECT_test.csv, val/, dev/           heading: id, question, A, B, C, D, answer, explanation
//   cmmlu  test/SUBJECT.csv, dev/                      heading: (number), Question, A, B, C, D, Answer
// Examples come from dev. Subjects stand in the order of mapping.json.
Exam read_exam(const std::string& task, const std::string& task_dir);

struct ExamOptions {
  int64_t n_shot = 5, batch_size = 4;
  std::string lang = "en";  // en, zh
  uint64_t seed = 42;
};

// Question with its examples as the conversation that is asked; the last message is the question. Examples are drawn anew for each
// question, with the orders that LLaMA-Factory's shuffle has for this seed.
std::vector<std::vector<Conversation>> exam_conversations(const Exam& exam, const ExamOptions& options);

// Adds TASK_Average and TASK_CATEGORY in percent, and results.json and results.log as LLaMA-Factory writes them. The answer is the
// likeliest of the tokens A, B, C, D behind the prompt.
void take_exam(const Subject& subject, const Exam& exam, const ExamOptions& options, EvalResult& result);

}  // namespace loraine
