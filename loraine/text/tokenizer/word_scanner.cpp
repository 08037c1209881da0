// See word_scanner.h. Each loop follows its regex alternative by alternative; the first that matches takes the word.
#include "loraine/text/tokenizer/word_scanner.h"

#include <utf8proc.h>

#include <charconv>
#include <cstdint>

#include "loraine/text/tokenizer/text_pattern.h"
#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens {

WordPattern known_pattern(std::string_view regex) {
  if (regex == R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)") return WordPattern::gpt2;
  constexpr std::string_view begin = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})",
                             end = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  if (!regex.starts_with(begin) || !regex.ends_with(end) || regex.size() < begin.size() + end.size()) return WordPattern::none;
  std::string_view count = regex.substr(begin.size(), regex.size() - begin.size() - end.size());
  return count.empty() ? WordPattern::one_digit : count == "{1,3}" ? WordPattern::three_digits : WordPattern::none;
}

namespace {

enum CharClass : uint8_t { kOther, kLetter, kNumber, kSpace, kNewline };  // \p{L}, \p{N}, \s but \r and \n, \r and \n

constexpr char32_t kClassed = 0x32400;  // every character beyond is kOther

void mark(std::vector<uint8_t>& classes, std::string_view members, CharClass value) {  // members: \x{1C89}-\x{1C8A}\x{A7CB}…
  char32_t previous = 0;
  for (size_t at = 0; (at = members.find("\\x{", at)) != std::string_view::npos;) {
    bool range = at > 0 && members[at - 1] == '-';
    uint32_t c = 0;
    std::from_chars(members.data() + at + 3, members.data() + members.size(), c, 16);
    for (char32_t k = range ? previous : c; k <= c && k < kClassed; ++k) classes[k] = value;
    previous = c;
    at += 3;
  }
}

const uint8_t* char_classes() {
  static const std::vector<uint8_t> kClasses = [] {
    std::vector<uint8_t> classes(kClassed, kOther);
    for (char32_t c = 0; c < kClassed; ++c) {
      auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
      if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) classes[c] = kLetter;
      if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) classes[c] = kNumber;
      if (is_space(c)) classes[c] = c == '\r' || c == '\n' ? kNewline : kSpace;
    }
    mark(classes, characters_older_tables_lack('L'), kLetter);
    mark(classes, characters_older_tables_lack('N'), kNumber);
    return classes;
  }();
  return kClasses.data();
}

struct Scanner {
  std::string_view text;
  const uint8_t* classes = char_classes();

  // Class of the character at `at`, which moves behind it.
  uint8_t take(size_t& at) const {
    auto first = static_cast<unsigned char>(text[at]);
    if (first < 0x80) return ++at, classes[first];
    char32_t c = next_char(text, at);
    return c < kClassed ? classes[c] : static_cast<uint8_t>(kOther);
  }
  // Behind the characters of one class that begin at `at`.
  size_t run(size_t at, uint8_t wanted) const {
    for (size_t next = at; at < text.size(); at = next)
      if (take(next) != wanted) break;
    return at;
  }
  bool is(size_t at, uint8_t wanted) const { return at < text.size() && take(at) == wanted; }

  // Length of 's, 't, 're, 've, 'm, 'll or 'd at `at`, else 0. fold: in any case, and U+017F as an s.
  size_t contraction(size_t at, bool fold) const {
    auto letter = [&](size_t i) {
      char c = i < text.size() ? text[i] : '\0';
      return fold && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    };
    char a = letter(at + 1), b = letter(at + 2);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    return fold && a == '\xC5' && b == '\xBF' ? 3 : 0;
  }

  // Spaces at `at` up to where the word ends: \s+(?!\S)|\s+, and before them \s*[\r\n]+ where `newlines`.
  size_t spaces_end(size_t at, bool newlines) const {
    size_t last = at, behind_newline = 0;
    for (size_t next = at, begin = at; begin < text.size(); begin = next) {
      uint8_t k = take(next);
      if (k != kSpace && k != kNewline) return newlines && behind_newline ? behind_newline : last > at ? last : begin;
      last = begin;
      if (k == kNewline) behind_newline = next;
    }
    return newlines && behind_newline ? behind_newline : text.size();
  }

  size_t gpt2_end(size_t at) const {
    if (text[at] == '\'')
      if (size_t n = contraction(at, false)) return at + n;
    size_t next = at;
    uint8_t k = take(next);
    if (text[at] == ' ' && next < text.size()) {
      size_t behind = next;
      uint8_t second = take(behind);
      if (second != kSpace && second != kNewline) return run(behind, second);
    }
    return k == kSpace || k == kNewline ? spaces_end(at, false) : run(next, k);
  }

  size_t cl100k_end(size_t at, int digits) const {
    if (text[at] == '\'')
      if (size_t n = contraction(at, true)) return at + n;
    size_t next = at;
    uint8_t k = take(next);
    if (k == kLetter || (k != kNewline && k != kNumber && is(next, kLetter))) return run(next, kLetter);
    if (k == kNumber) {
      while (--digits > 0 && is(next, kNumber)) take(next);
      return next;
    }
    if (k == kOther || (text[at] == ' ' && is(next, kOther))) {
      size_t end = run(next, kOther);
      while (end < text.size() && (text[end] == '\r' || text[end] == '\n')) ++end;
      return end;
    }
    return spaces_end(at, true);
  }
};

}  // namespace

void scan_words(WordPattern pattern, std::string_view text, size_t at, std::vector<std::pair<size_t, size_t>>& out) {
  Scanner scanner{text};
  int digits = pattern == WordPattern::three_digits ? 3 : 1;
  for (size_t end = at; at < text.size(); at = end) {
    end = pattern == WordPattern::gpt2 ? scanner.gpt2_end(at) : scanner.cl100k_end(at, digits);
    out.emplace_back(at, end);
  }
}

}  // namespace loraine::tokens
