// The hand-written loops against the regexes they stand for, run by the regex library.
#include "loraine/text/tokenizer/word_scanner.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "loraine/text/tokenizer/text_pattern.h"
#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens::word_scanner_test {
namespace {

using Words = std::vector<std::pair<size_t, size_t>>;

const char* const kPatterns[] = {
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

class WordScanner : public testing::TestWithParam<int> {
 protected:
  void compare(const std::string& text) {
    Words by_hand, by_regex;
    scan_words(known_pattern(kPatterns[GetParam()]), text, 0, by_hand);
    pattern_.each_match(text, [&](size_t begin, size_t end) { by_regex.emplace_back(begin, end); });
    ASSERT_EQ(by_hand, by_regex) << testing::PrintToString(text);
  }
  TextPattern pattern_ = TextPattern::regex(kPatterns[GetParam()], {"test", "", 0});
};

TEST(WordScannerPatterns, OnlyTheLetterOfAPatternIsKnown) {
  EXPECT_EQ(known_pattern(kPatterns[0]), WordPattern::gpt2);
  EXPECT_EQ(known_pattern(kPatterns[1]), WordPattern::one_digit);
  EXPECT_EQ(known_pattern(kPatterns[2]), WordPattern::three_digits);
  for (const char* pattern : kPatterns) {
    std::string whole = pattern;
    for (size_t cut = 0; cut < whole.size(); ++cut) {
      EXPECT_EQ(known_pattern(whole.substr(0, cut)), WordPattern::none) << cut;
      EXPECT_EQ(known_pattern(whole.substr(0, cut) + "." + whole.substr(cut)), WordPattern::none) << cut;
    }
  }
}

TEST_P(WordScanner, EveryCharacterHasTheClassOfTheRegex) {
  std::string text;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    for (const char* around : {"a", "1", "-", " "}) {
      text += around;
      append_char(text, c);
      text += around;
    }
    if (text.size() > 100'000 || c == 0x10FFFF) {
      ASSERT_NO_FATAL_FAILURE(compare(text));
      text.clear();
    }
  }
}

TEST_P(WordScanner, ShortTextsInEveryCombination) {
  const std::string_view parts[] = {" ", "\n", "\r", "\t", "'", "s", "L", "1", "-", "\u3000", "\u017F", "é", "\u0301", "re"};
  for (auto a : parts)
    for (auto b : parts)
      for (auto c : parts)
        for (auto d : parts) {
          std::string text;
          text.append(a).append(b).append(c).append(d);
          ASSERT_NO_FATAL_FAILURE(compare(text));
        }
}

TEST_P(WordScanner, RandomTexts) {
  const std::string_view parts[] = {" ",      "  ",     "\n",     "\r\n", "\t", "'s", "'LL",        "'\u017F",
                                    "'vE",    "'",      "word",   "X",    "7",  "42", "\u0663",     "...",
                                    "\u00A0", "\u2028", "\u0085", "日本", "é",  "̈",   "\U0001F600", "\U0001D2C5"};
  std::mt19937 random(1);
  for (int k = 0; k < 20'000; ++k) {
    std::string text;
    for (size_t n = random() % 24; n > 0; --n) text += parts[random() % std::size(parts)];
    ASSERT_NO_FATAL_FAILURE(compare(text));
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, WordScanner, testing::Values(0, 1, 2));

}  // namespace
}  // namespace loraine::tokens::word_scanner_test
