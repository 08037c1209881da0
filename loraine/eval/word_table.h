// jieba's dictionary and its model of unknown words, as tools/word_table.py writes them into the program. Used by words.cpp and
// chinese_words.cpp.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace loraine {

inline bool is_han(char32_t c) { return c >= 0x4E00 && c <= 0x9FD5; }  // what jieba takes for Chinese
inline constexpr int kHan = 0x9FD5 - 0x4E00 + 1;

// Places of a character in a word: it begins one, ends one, stands in the middle, or is one. In the order that decides between equals.
enum WordPlace { kBegin, kEnd, kMiddle, kSingle };
using PlaceValues = std::array<double, 4>;

struct WordTable {
  uint64_t total = 0;                    // sum of all frequencies
  PlaceValues start{};                   // natural logarithms of probabilities: of the first character's place,
  std::array<PlaceValues, 4> after{};    // [place][next place],
  std::span<const PlaceValues> emitted;  // [kHan]: of the character U+4E00 + i in each place
  std::span<const uint32_t> first;       // [0x10001]: the first word that begins with character c or a later one
  std::span<const uint32_t> starts;      // [words + 1]: where a word's characters begin
  std::span<const uint32_t> frequency;   // [words], from 1
  std::span<const char16_t> characters;  // of all words, sorted

  // The words that begin with the same `length` characters.
  struct Range {
    uint32_t begin = 0, end = 0, length = 0;
    bool empty() const { return begin == end; }
  };
  Range beginning_with(char32_t c) const;
  Range narrowed(const Range& range, char32_t next) const;
  uint32_t frequency_of(const Range& range) const;        // of the word that is just those characters; 0: there is none
  uint32_t frequency_of(std::u32string_view word) const;  // which is not empty

 private:
  uint32_t first_with(uint32_t begin, uint32_t end, uint32_t place, char32_t c) const;
};

// nullptr in a program built without jieba's files.
const WordTable* word_table();

}  // namespace loraine
