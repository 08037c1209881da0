// jieba's rules: blocks of text, words of the dictionary in them, and what is left between those.
#include "loraine/eval/words.h"

#include <algorithm>
#include <array>

#include "loraine/eval/chinese_words.h"
#include "loraine/text/tokenizer/unicode.h"

namespace loraine {
namespace {

bool is_alphanumeric(char32_t c) { return (c >= U'0' && c <= U'9') || (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z'); }
bool is_digit(char32_t c) { return c >= U'0' && c <= U'9'; }
// What jieba takes together as a block before it looks for words in it.
bool in_block(char32_t c) {
  return is_han(c) || is_alphanumeric(c) || std::u32string_view(U"+#&._%-").find(c) != std::u32string_view::npos;
}

// The entries of jieba's dictionary without a Chinese character.
constexpr std::array<std::u32string_view, 5> kLatinEntries = {U"AT&T", U"c#", U"C#", U"c++", U"C++"};

size_t latin_entry_at(std::u32string_view text, size_t at) {
  for (std::u32string_view entry : kLatinEntries)
    if (text.substr(at, entry.size()) == entry) return entry.size();
  return 0;
}

// End of [a-zA-Z0-9]+(?:\.\d+)?%? from `at`.
size_t word_end(std::u32string_view text, size_t at) {
  while (at < text.size() && is_alphanumeric(text[at])) ++at;
  if (at + 1 < text.size() && text[at] == U'.' && is_digit(text[at + 1])) {
    ++at;
    while (at < text.size() && is_digit(text[at])) ++at;
  }
  if (at < text.size() && text[at] == U'%') ++at;
  return at;
}

void cut_latin(std::u32string_view text, std::vector<std::u32string>& words) {
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    if (is_alphanumeric(text[at])) end = word_end(text, at);
    else
      while (end < text.size() && !is_alphanumeric(text[end])) ++end;
    words.emplace_back(text.substr(at, end - at));
    at = end;
  }
}

// Words that the dictionary lacks.
void cut_unknown(const WordTable& table, std::u32string_view text, std::vector<std::u32string>& words) {
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && is_han(text[end]) == is_han(text[at])) ++end;
    const std::u32string_view run = text.substr(at, end - at);
    if (is_han(text[at])) {
      size_t from = 0;
      for (size_t to : likely_unknown_words(table, run)) {
        words.emplace_back(run.substr(from, to - from));
        from = to;
      }
    } else {
      cut_latin(run, words);
    }
    at = end;
  }
}

// Neighbours that the dictionary leaves single. Where they are a word of it all the same, the way in single characters was likelier.
void cut_singles(const WordTable& table, std::u32string_view text, std::vector<std::u32string>& words) {
  if (text.size() < 2 || table.frequency_of(text) > 0)
    for (char32_t c : text) words.emplace_back(1, c);
  else cut_unknown(table, text, words);
}

void cut_block(const WordTable& table, std::u32string_view block, std::vector<std::u32string>& words) {
  const std::vector<size_t> ends = likeliest_words(table, block);
  size_t from = 0, at = 0;
  for (; at < block.size(); at = ends[at]) {
    if (ends[at] == at + 1) continue;
    cut_singles(table, block.substr(from, at - from), words);
    words.emplace_back(block.substr(at, ends[at] - at));
    from = ends[at];
  }
  cut_singles(table, block.substr(from), words);
}

void cut_block_without_table(std::u32string_view block, std::vector<std::u32string>& words) {
  size_t from = 0, at = 0;
  const auto flush = [&] { cut_latin(block.substr(from, at - from), words); };
  while (at < block.size()) {
    const size_t entry = is_han(block[at]) ? 1 : latin_entry_at(block, at);
    if (entry == 0) {
      ++at;
      continue;
    }
    flush();
    words.emplace_back(block.substr(at, entry));
    from = at += entry;
  }
  flush();
}

}  // namespace

bool is_blank(char32_t c) { return tokens::is_space(c) || (c >= 0x1C && c <= 0x1F); }

std::u32string to_characters(std::string_view text) {
  const std::string repaired = tokens::repair_utf8(text);
  std::u32string characters;
  for (size_t at = 0; at < repaired.size();) characters.push_back(tokens::next_char(repaired, at));
  return characters;
}

bool has_chinese(std::u32string_view text) { return std::ranges::any_of(text, is_han); }

std::vector<std::u32string> cut_words(std::u32string_view text, const WordTable* table) {
  std::vector<std::u32string> words;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && in_block(text[end])) ++end;
    if (end > at) {
      const std::u32string_view block = text.substr(at, end - at);
      if (table) cut_block(*table, block, words);
      else cut_block_without_table(block, words);
    } else {
      end = text.substr(at, 2) == U"\r\n" ? at + 2 : at + 1;
      words.emplace_back(text.substr(at, end - at));
    }
    at = end;
  }
  return words;
}

}  // namespace loraine
