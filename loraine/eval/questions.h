// Questions of one's own from a JSONL: multiple choice by likelihood, exact match by generation. Called by evaluate.cpp.
#pragma once
#include <string>
#include <vector>

#include "loraine/eval/figures.h"
#include "loraine/eval/subject.h"

namespace loraine {

struct ChoiceQuestion {
  Conversation asked;
  std::vector<std::string> choices;
  size_t answer = 0;
};
// Rows: {"question", "choices": [texts], "answer": place from 0, letter A…, or the choice itself, "system" (may be absent)}.
std::vector<ChoiceQuestion> read_choice_questions(const std::string& file);

// Adds choice_accuracy (the choice whose tokens have the largest log-likelihood as the answer, what the template puts behind it included)
// and choice_accuracy_norm (the same divided by the choice's bytes), in percent.
void answer_choices(const Subject& subject, const std::vector<ChoiceQuestion>& questions, int64_t batch_size, EvalResult& result);

struct MatchQuestion {
  Conversation asked;
  std::vector<std::string> answers;  // any of them is right
};
// Rows: {"question", "answer": text or list of texts, "system" (may be absent)}.
std::vector<MatchQuestion> read_match_questions(const std::string& file);

// Adds exact_match (equal once blanks around are off) and exact_match_loose (small letters, blanks squeezed, marks at the end off), in
// percent, and match_predictions.jsonl. Answers are greedy, whatever do_sample says.
void answer_matches(const Subject& subject, const std::vector<MatchQuestion>& questions, EvalResult& result);

std::string loose_text(const std::string& text);

}  // namespace loraine
