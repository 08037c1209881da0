// The three regexes that most tokenizers cut words with, as loops by hand: GPT-2's, cl100k's with single digits (Qwen), and cl100k's with
// up to three (Llama 3). Any other regex goes through text_pattern.h. Called by pre_tokenizer.cpp.
#pragma once
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

namespace loraine::tokens {

enum class WordPattern { none, gpt2, one_digit, three_digits };

WordPattern known_pattern(std::string_view regex);  // none: not one of them, to the letter

// Appends the words of text[at, end of text) to out: the pattern's matches, which leave nothing between them. `text` is valid UTF-8.
void scan_words(WordPattern pattern, std::string_view text, size_t at, std::vector<std::pair<size_t, size_t>>& out);

}  // namespace loraine::tokens
