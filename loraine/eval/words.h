// Words of a text for ROUGE, as jieba cuts them. Called by text_scores.cpp and generation.cpp.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "loraine/eval/word_table.h"

namespace loraine {

// The words of jieba 0.42.1's cut(text), blanks kept as words of their own. Without a table (nullptr) Chinese characters (U+4E00 to U+9FD5)
// are words one by one; other text is cut the same.
std::vector<std::u32string> cut_words(std::u32string_view text, const WordTable* table = word_table());

bool has_chinese(std::u32string_view text);           // a character from U+4E00 to U+9FD5
std::u32string to_characters(std::string_view text);  // bytes that are no UTF-8 become U+FFFD
bool is_blank(char32_t c);                            // Python's str.isspace

}  // namespace loraine
