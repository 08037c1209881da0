// Rows to conversations, conversations to likelihoods or answers.
#include "loraine/eval/questions.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "loraine/core/python_json.h"
#include "loraine/eval/generation.h"
#include "loraine/io/files/json_lines.h"
#include "loraine/text/tokenizer/unicode.h"
#include "loraine/train/evaluation/evaluate.h"

namespace loraine {
namespace {

Conversation asked_in(const JsonRow& row) {
  Conversation asked;
  asked.messages.push_back({Role::user, text_field(row, {"question", "prompt", "instruction"})});
  if (row.value.contains("system")) asked.system = text_field(row, {"system"});
  return asked;
}

std::vector<std::string> texts_in(const JsonRow& row, const char* name) {
  const auto found = row.value.find(name);
  std::vector<std::string> texts;
  if (found != row.value.end() && found->is_string()) texts.push_back(found->get<std::string>());
  if (found != row.value.end() && found->is_array())
    for (const auto& one : *found) {
      if (!one.is_string()) throw Error(ErrorKind::bad_data, fmt::format("{}: `{}` holds something that is no text", row.place, name));
      texts.push_back(one.get<std::string>());
    }
  if (texts.empty()) throw Error(ErrorKind::bad_data, fmt::format("{}: `{}` is not a text or a list of texts", row.place, name));
  return texts;
}

size_t answer_place(const JsonRow& row, const std::vector<std::string>& choices) {
  const auto found = row.value.find("answer");
  size_t place = SIZE_MAX;
  if (found != row.value.end() && found->is_number_integer() && found->get<int64_t>() >= 0) place = found->get<size_t>();
  if (found != row.value.end() && found->is_string()) {
    const std::string text = found->get<std::string>();
    place = static_cast<size_t>(std::ranges::find(choices, text) - choices.begin());
    if (place == choices.size() && text.size() == 1 && text[0] >= 'A' && text[0] <= 'Z') place = static_cast<size_t>(text[0] - 'A');
  }
  if (place >= choices.size())
    throw Error(ErrorKind::bad_data, fmt::format("{}: `answer` is none of the {} choices", row.place, choices.size()),
                "give its place from 0, its letter, or its text");
  return place;
}

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
}

}  // namespace

std::string loose_text(const std::string& text) {
  std::string squeezed;
  for (char c : tokens::lower_case(tokens::repair_utf8(text))) {
    const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    if (!blank) squeezed += c;
    else if (!squeezed.empty() && squeezed.back() != ' ') squeezed += ' ';
  }
  const size_t last = squeezed.find_last_not_of(" .,;:!?");
  return squeezed.substr(0, last == std::string::npos ? 0 : last + 1);
}

std::vector<ChoiceQuestion> read_choice_questions(const std::string& file) {
  std::vector<ChoiceQuestion> questions;
  for (const JsonRow& row : read_json_rows(file)) {
    std::vector<std::string> choices = texts_in(row, "choices");
    if (choices.size() < 2) throw Error(ErrorKind::bad_data, row.place + ": fewer than two choices");
    const size_t answer = answer_place(row, choices);
    questions.push_back({asked_in(row), std::move(choices), answer});
  }
  return questions;
}

void answer_choices(const Subject& subject, const std::vector<ChoiceQuestion>& questions, int64_t batch_size, EvalResult& result) {
  std::vector<Example> examples;
  for (const ChoiceQuestion& question : questions)
    for (const std::string& choice : question.choices) examples.push_back(subject.loaded.answered(question.asked, choice, subject.adapter));
  Forward forward(subject, rows_of_largest_batch(examples, batch_size));
  const auto total = static_cast<int64_t>(examples.size());
  const EvalSums sums = forward.evaluate(examples, batch_size, [&](int64_t done) { subject.progress("multiple choice", done, total); });
  Figure plain{.name = "choice_accuracy", .scale = 100, .proportion = true};
  Figure norm{.name = "choice_accuracy_norm", .scale = 100, .proportion = true};
  size_t at = 0;
  for (const ChoiceQuestion& question : questions) {
    size_t best = 0, best_norm = 0;
    const auto loss = [&](size_t c) { return sums.examples[at + c].loss; };
    const auto per_byte = [&](size_t c) { return loss(c) / static_cast<double>(std::max<size_t>(question.choices[c].size(), 1)); };
    for (size_t c = 1; c < question.choices.size(); ++c) {
      if (loss(c) < loss(best)) best = c;
      if (per_byte(c) < per_byte(best_norm)) best_norm = c;
    }
    plain.add(best == question.answer);
    norm.add(best_norm == question.answer);
    at += question.choices.size();
  }
  add_figure(result, std::move(plain));
  add_figure(result, std::move(norm));
}

std::vector<MatchQuestion> read_match_questions(const std::string& file) {
  std::vector<MatchQuestion> questions;
  for (const JsonRow& row : read_json_rows(file)) questions.push_back({asked_in(row), texts_in(row, "answer")});
  return questions;
}

void answer_matches(const Subject& subject, const std::vector<MatchQuestion>& questions, EvalResult& result) {
  std::vector<std::vector<int32_t>> prompts;
  for (const MatchQuestion& question : questions) prompts.push_back(subject.loaded.prompt_ids(question.asked, subject.adapter));
  GenerateOptions options = generate_options(subject.loaded, subject.adapter);
  options.do_sample = false;
  const std::vector<std::string> answers = generate_answers(subject, prompts, options, "exact match", result);
  Figure exact{.name = "exact_match", .scale = 100, .proportion = true},
      loose{.name = "exact_match_loose", .scale = 100, .proportion = true};
  std::string lines;
  for (size_t i = 0; i < questions.size(); ++i) {
    const auto any = [&](const auto& same) { return std::ranges::any_of(questions[i].answers, same) ? 1.0 : 0.0; };
    exact.add(any([&](const std::string& right) { return trimmed(right) == trimmed(answers[i]); }));
    loose.add(any([&](const std::string& right) { return loose_text(right) == loose_text(answers[i]); }));
    lines += python_json(nlohmann::ordered_json{{"question", questions[i].asked.messages.back().content},
                                                {"predict", answers[i]},
                                                {"answer", questions[i].answers},
                                                {"exact", exact.sums.back() == 1}}) +
             "\n";
  }
  add_figure(result, std::move(exact));
  add_figure(result, std::move(loose));
  result.files.emplace_back("match_predictions.jsonl", lines);
}

}  // namespace loraine
