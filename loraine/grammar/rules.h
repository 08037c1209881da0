// The general form of a grammar: rules, each a regular expression over bytes that may call rules. Schemas, patterns, choices and calls of
// tools are written in it; automaton.h compiles it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/core/error.h"

namespace loraine::grammar {

// What a caller asked for and no grammar can be made of. code: unsupported_schema, invalid_schema, invalid_regex or grammar_too_large;
// path: a JSON pointer into the schema ("#/properties/a/not"), or empty.
struct GrammarError : Error {
  GrammarError(std::string code_, std::string path_, const std::string& what)
      : Error(ErrorKind::usage, path_.empty() ? what : path_ + ": " + what), code(std::move(code_)), path(std::move(path_)) {}
  std::string code, path;
};

// A special token is no text: in a grammar it stands as kSpecialOpen, its spelling, kSpecialClose. Neither byte occurs in UTF-8, and no
// other token that has one is ever allowed.
inline constexpr char kSpecialOpen = '\xff', kSpecialClose = '\xfe';
std::string special_token(std::string_view spelling);

class Rules {
 public:
  using Node = int32_t;
  using Rule = int32_t;
  static constexpr int64_t kUnbounded = -1;

  Rules();
  Node nothing() const { return 0; }  // the empty text
  Node never() const { return 1; }    // no text at all
  Node literal(std::string_view bytes);
  Node range(uint8_t first, uint8_t last);  // one byte
  Node sequence(std::vector<Node> parts);
  Node choice(std::vector<Node> alternatives);
  Node repeat(Node part, int64_t least, int64_t most = kUnbounded);  // as copies: for small numbers
  Node optional(Node part) { return choice({nothing(), part}); }
  Node call(Rule rule);
  // States 0 … states - 1, the first one begins. An edge is walked by a text of its label.
  struct Edge {
    int32_t from, to;
    Node label;
  };
  Node graph(int32_t states, std::vector<Edge> edges, std::vector<int32_t> finals);

  Rule add(std::string name);  // defined later; never defined: no text
  void define(Rule rule, Node body);
  Rule add(std::string name, Node body);
  // least to most texts of `body`, none of them empty, one after the other. Counted while walking: costs no states.
  Rule counted(std::string name, Rule body, int64_t least, int64_t most);

  enum class Kind : uint8_t { literal, range, sequence, choice, repeat, call, graph };
  struct Part {
    Kind kind;
    uint8_t first = 0, last = 0;  // range
    int64_t least = 0, most = 0;  // repeat
    Rule rule = -1;               // call
    std::string bytes;            // literal
    std::vector<Node> parts;      // sequence, choice, repeat
    int32_t states = 0;           // graph
    std::vector<Edge> edges;      // graph
    std::vector<int32_t> finals;  // graph
  };
  struct Definition {
    std::string name;
    Node body = 1;
    Rule counted = -1;  // the rule that is repeated, where this is such a rule
    int64_t least = 0, most = 0;
  };
  const Part& part(Node node) const { return parts_[static_cast<size_t>(node)]; }
  const std::vector<Definition>& definitions() const { return rules_; }

 private:
  Node put(Part part);
  std::vector<Part> parts_;
  std::vector<Definition> rules_;
  std::vector<Node> ranges_;  // those made so far, by first * 256 + last
};

}  // namespace loraine::grammar
