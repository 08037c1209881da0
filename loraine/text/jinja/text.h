// Python's text functions over UTF-8: case, character classes, words, lines, padding. Used by the methods and filters of the Jinja engine.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace loraine::jinja {

std::string upper(const std::string& text);
std::string lower(const std::string& text);
std::string casefold(const std::string& text);
std::string capitalize(const std::string& text);
std::string title(const std::string& text);
std::string swapcase(const std::string& text);
bool is_class(const std::string& text, const std::string& name);                                     // isalpha, isdigit, isupper, …
bool printable(char32_t c);                                                                          // as repr leaves it
bool word_character(char32_t c);                                                                     // \w
std::vector<std::string_view> split_words(const std::string& text, int64_t limit, bool from_right);  // at runs of blanks
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);
std::string pad(const std::string& text, int64_t width, const std::string& fill, char align);  // align: < > ^, c (as str.center)

}  // namespace loraine::jinja
