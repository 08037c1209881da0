// Which characters make a word, by jieba's dictionary and by its model of words that the dictionary lacks. Called by words.cpp.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "loraine/eval/word_table.h"

namespace loraine {

// The likeliest way through a block of text in words of the dictionary and single characters: [characters], of each place the end of the
// word that begins there. Probabilities are those of words drawn one by one; of equally likely ways the one whose first word is longer.
std::vector<size_t> likeliest_words(const WordTable& table, std::u32string_view block);

// Ends of the words of a run of Chinese characters, by the likeliest places of its characters in words (Viterbi).
std::vector<size_t> likely_unknown_words(const WordTable& table, std::u32string_view run);

}  // namespace loraine
