// Words of a text for ROUGE, as jieba cuts them where its dictionary is not needed. Called by text_scores.cpp.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace loraine {

// Text without Chinese characters (U+4E00 to U+9FD5) is cut exactly as jieba 0.42 cuts it: runs of letters and digits, everything else
// character by character, blanks kept as words of their own. Chinese characters are words one by one, where jieba would join those that
// its dictionary (349,046 entries) and its hidden Markov model take for one word: figures of Chinese text differ from LLaMA-Factory's.
std::vector<std::u32string> cut_words(std::u32string_view text);

std::u32string to_characters(std::string_view text);  // bytes that are no UTF-8 become U+FFFD
bool is_blank(char32_t c);                            // Python's str.isspace

}  // namespace loraine
