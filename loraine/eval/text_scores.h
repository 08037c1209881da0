// BLEU-4 and ROUGE-1, -2, -L of an answer against a reference, as LLaMA-Factory figures them. Called by generation.cpp.
#pragma once
#include <string_view>

namespace loraine {

// In percent, rounded to four decimals as LLaMA-Factory does.
//   rouge_*: F-score of rouge_chinese over words (words.h): shared n-grams as sets, the longest common subsequence of all words.
//   bleu_4: nltk's sentence_bleu over characters, equal weights, smoothing method 3.
struct TextScores {
  double rouge_1 = 0, rouge_2 = 0, rouge_l = 0, bleu_4 = 0;
};
TextScores score_text(std::string_view predicted, std::string_view reference);

}  // namespace loraine
