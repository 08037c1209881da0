// BLEU and ROUGE against what jieba, rouge_chinese and nltk gave (tests/golden/make_eval_cases.py).
#include "loraine/eval/text_scores.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "loraine/eval/words.h"

namespace loraine::text_scores_test {
namespace {

// Compares the pairs with Chinese characters, or the others; gives their number.
int compare_recorded(bool chinese) {
  std::ifstream in(std::string(LORAINE_SOURCE_DIR) + "/tests/golden/eval/text_scores.jsonl");
  int pairs = 0;
  for (std::string line; std::getline(in, line);) {
    const auto row = nlohmann::json::parse(line);
    if (has_chinese(to_characters(row["predicted"].get<std::string>() + row["reference"].get<std::string>())) != chinese) continue;
    ++pairs;
    std::vector<std::u32string> words;
    for (const auto& word : row["words"]) words.push_back(to_characters(word.get<std::string>()));
    EXPECT_EQ(cut_words(to_characters(row["predicted"].get<std::string>())), words) << line;
    const TextScores scores = score_text(row["predicted"].get<std::string>(), row["reference"].get<std::string>());
    EXPECT_DOUBLE_EQ(scores.rouge_1, row["rouge-1"].get<double>()) << line;
    EXPECT_DOUBLE_EQ(scores.rouge_2, row["rouge-2"].get<double>()) << line;
    EXPECT_DOUBLE_EQ(scores.rouge_l, row["rouge-l"].get<double>()) << line;
    EXPECT_DOUBLE_EQ(scores.bleu_4, row["bleu-4"].get<double>()) << line;
  }
  return pairs;
}

TEST(TextScores, RecordedPairs) { EXPECT_EQ(compare_recorded(false), 32); }

TEST(TextScores, RecordedChinesePairs) {
  if (!word_table()) GTEST_SKIP() << "built without jieba's dictionary (python3-jieba)";
  EXPECT_EQ(compare_recorded(true), 70);
}

TEST(TextScores, BadBytesAreScoredAsReplacementCharacters) {
  const TextScores scores = score_text("a\xff\xc3", "a\xff\xc3");
  EXPECT_DOUBLE_EQ(scores.rouge_1, 100);
}

}  // namespace
}  // namespace loraine::text_scores_test
