// Words against those of jieba 0.42.1 (tests/golden/make_eval_cases.py), and the table that they come from.
#include "loraine/eval/words.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "loraine/text/tokenizer/unicode.h"

namespace loraine::words_test {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::u32string>;

const fs::path kSource = LORAINE_SOURCE_DIR;
constexpr const char* kNoTable = "built without jieba's dictionary (python3-jieba)";

std::string read_file(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string to_text(const std::u32string& word) {
  std::string text;
  for (char32_t c : word) tokens::append_char(text, c);
  return text;
}

unsigned long crc(const std::string& text) {
  return crc32(0, reinterpret_cast<const unsigned char*>(text.data()), static_cast<unsigned>(text.size()));
}

// [texts]: a text and its words.
std::vector<std::pair<std::u32string, Words>> recorded() {
  std::vector<std::pair<std::u32string, Words>> cases;
  std::ifstream in(kSource / "tests/golden/eval/words.jsonl");
  for (std::string line; std::getline(in, line);) {
    const auto row = nlohmann::json::parse(line);
    auto& [text, words] = cases.emplace_back();
    for (const auto& word : row) {
      words.push_back(to_characters(word.get<std::string>()));
      text += words.back();
    }
  }
  return cases;
}

TEST(Words, RecordedTexts) {
  const auto cases = recorded();
  EXPECT_EQ(cases.size(), 232u);
  if (!word_table()) GTEST_SKIP() << kNoTable;
  for (const auto& [text, words] : cases) EXPECT_EQ(cut_words(text), words) << to_text(text);
}

TEST(Words, EveryTextOfARealDataSet) {
  if (!word_table()) GTEST_SKIP() << kNoTable;
  const fs::path file = kSource / "../shared/data/alpaca_zh_demo.json";
  if (!fs::exists(file)) GTEST_SKIP() << "no data set at ../shared/data/alpaca_zh_demo.json";
  const auto expected = nlohmann::json::parse(read_file(kSource / "tests/golden/eval/words_of_data_set.json"));
  const std::string content = read_file(file);
  if (crc(content) != expected["crc32_of_file"].get<unsigned long>()) GTEST_SKIP() << file << " is another version than the recorded one";
  size_t texts = 0, words = 0;
  std::string all;  // every word, a NUL behind each
  for (const auto& row : nlohmann::ordered_json::parse(content))
    for (const auto& value : row) {
      ++texts;
      for (const std::u32string& word : cut_words(to_characters(value.get<std::string>()))) {
        ++words;
        all += to_text(word) + '\0';
      }
    }
  EXPECT_EQ(texts, expected["texts"].get<size_t>());
  EXPECT_EQ(words, expected["words"].get<size_t>());
  EXPECT_EQ(crc(all), expected["crc32_of_words"].get<unsigned long>());
}

TEST(Words, WithoutTheTableChineseIsSingleCharactersAndTheRestIsTheSame) {
  EXPECT_EQ(cut_words(U"北京C++大会v2.0,ok", nullptr), (Words{U"北", U"京", U"C++", U"大", U"会", U"v2.0", U",", U"ok"}));
  int plain = 0;
  for (const auto& [text, words] : recorded()) {
    if (has_chinese(text)) continue;
    ++plain;
    EXPECT_EQ(cut_words(text, nullptr), words) << to_text(text);
  }
  EXPECT_GE(plain, 10);
}

TEST(Words, ALongBlockIsCutInOneGo) {
  if (!word_table()) GTEST_SKIP() << kNoTable;
  std::u32string text;
  for (int i = 0; i < 100000; ++i) text += U"北京";
  EXPECT_EQ(cut_words(text), Words(100000, U"北京"));
}

TEST(WordTable, HoldsEveryWordOnceInOrder) {
  const WordTable* table = word_table();
  if (!table) GTEST_SKIP() << kNoTable;
  EXPECT_EQ(table->frequency.size(), 349045u);  // 349,046 lines, of which two are of one word
  EXPECT_EQ(table->total, 60101967u);
  EXPECT_EQ(table->starts.back(), table->characters.size());
  EXPECT_EQ(table->first.back(), table->frequency.size());
  const auto word = [&](size_t i) {
    return std::u16string_view(table->characters.data() + table->starts[i], table->starts[i + 1] - table->starts[i]);
  };
  for (size_t i = 1; i < table->frequency.size(); ++i) ASSERT_LT(word(i - 1), word(i)) << i;
}

TEST(WordTable, FindsWordsAndBeginningsOfWords) {
  const WordTable* table = word_table();
  if (!table) GTEST_SKIP() << kNoTable;
  EXPECT_EQ(table->frequency_of(U"AT&T"), 3u);
  EXPECT_EQ(table->frequency_of(U"AT&"), 0u);
  EXPECT_EQ(table->frequency_of(U"AT&TT"), 0u);
  EXPECT_EQ(table->frequency_of(U"\U0001F600"), 0u);
  const WordTable::Range at = table->narrowed(table->beginning_with(U'A'), U'T');
  EXPECT_FALSE(at.empty());
  EXPECT_EQ(table->frequency_of(at), 0u);
  EXPECT_TRUE(table->narrowed(at, U'~').empty());
  EXPECT_TRUE(table->narrowed(table->narrowed(at, U'~'), U'T').empty());
  EXPECT_TRUE(table->beginning_with(0x10FFFF).empty());
}

}  // namespace
}  // namespace loraine::words_test
