// Values as rules, in one of the spellings that models write them in. Used by json_schema.cpp and by the grammars of tool calls.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/grammar/characters.h"
#include "loraine/grammar/rules.h"

namespace loraine::grammar {

using Json = nlohmann::ordered_json;

enum class Spelling : uint8_t {
  json,
  python,  // True, False, None; texts in either quotes
  gemma,   // texts between two <|"|>, keys bare, no blanks
};

class Values {
 public:
  using Node = Rules::Node;
  // quote: gemma's, as rules have it (special_token where it is one).
  Values(Rules& rules, Spelling spelling, std::string quote = "<|\"|>");

  Rules& rules() const { return rules_; }
  Spelling spelling() const { return spelling_; }
  Node blank() const { return blank_; }  // at most one newline and 32 spaces; gemma: nothing
  Node open(char bracket) const;         // the bracket and what may stand behind it
  Node close(char bracket) const;
  Node comma() const { return comma_; }
  Node text() const;  // any
  Node text(int64_t least, int64_t most) const;
  Node text(const CharacterAutomaton& characters) const;                                    // without escapes that need not be
  Node integer(std::optional<int64_t> least = {}, std::optional<int64_t> most = {}) const;  // at most 18 digits where there is no limit
  Node number() const;
  Node boolean(bool value) const;
  Node null() const;
  Node any() const;         // any value
  Node any_object() const;  // any object
  Node literal(const Json& value) const;
  Node key(std::string_view name) const;  // with the colon
  Node key(const CharacterAutomaton& names) const;
  Node any_member() const;  // a key and a value

 private:
  Node escaped(CharacterRange range) const;  // the characters as they stand in a text
  Node literal_text(std::string_view text) const;
  Node quote() const;
  Rules::Rule lazily(Rules::Rule& rule, const char* name, Node (Values::*body)() const) const;
  Node text_body() const;
  Node character_body() const;
  Node number_body() const;
  Node any_body() const;
  Node any_object_body() const;

  Rules& rules_;
  Spelling spelling_;
  std::string quote_;
  Node blank_, comma_;
  mutable Rules::Rule text_ = -1, character_ = -1, number_ = -1, any_ = -1, any_object_ = -1;
};

}  // namespace loraine::grammar
