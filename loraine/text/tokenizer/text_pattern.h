// A pattern of tokenizer.json ({"String": …} or {"Regex": …}) and its matches in a text. Used by Split and Replace.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "loraine/text/tokenizer/tokenizer_json.h"

namespace loraine::tokens {

class TextPattern {
 public:
  static TextPattern from_json(const Json& value, const Place& place);
  static TextPattern literal(std::string text);
  static TextPattern regex(const std::string& source, const Place& place);  // throws bad_data when it does not compile

  // Calls found(begin, end) for each match from left to right; empty matches are given too. `text` is valid UTF-8.
  void each_match(std::string_view text, const std::function<void(size_t, size_t)>& found) const;

  const std::string& regex_source() const { return source_; }   // empty for a literal
  const std::string& literal_text() const { return literal_; }  // empty for a regex

  struct Code;  // the compiled expression

 private:
  std::string literal_, source_;
  std::shared_ptr<const Code> code_, wide_code_;  // wide_code_: knows characters that older tables lack
};

// Characters of a category (L, N, M or P) that the tables of older libraries lack, as the inside of a regex class: \\x{1C89}-\\x{1C8A}…
std::string_view characters_older_tables_lack(char category);

}  // namespace loraine::tokens
