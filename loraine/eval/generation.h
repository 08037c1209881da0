// Answers to the prompts of a data set and their likeness to the references. Called by evaluate.cpp and questions.cpp.
#pragma once
#include <string>
#include <vector>

#include "loraine/data/dataset.h"
#include "loraine/eval/figures.h"
#include "loraine/eval/subject.h"

namespace loraine {

// One answer per prompt, without the token that ended it. Each prompt has the same seed, so an answer does not depend on the others.
// Answers that max_new_tokens cut are counted in a warning of the result.
std::vector<std::string> generate_answers(const Subject& subject, const std::vector<std::vector<int32_t>>& prompts,
                                          const GenerateOptions& options, const std::string& what, EvalResult& result);

// Adds predict_bleu-4, predict_rouge-1, -2, -l (text_scores.h) and generated_predictions.jsonl, as LLaMA-Factory's predict_with_generate.
// Of Chinese text without the table of its words (word_table.h) also a warning, and predict_chinese_words to the metrics.
void predict(const Subject& subject, const std::vector<Prompt>& prompts, EvalResult& result);

}  // namespace loraine
