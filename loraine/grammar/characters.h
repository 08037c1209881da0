// Texts as automata over Unicode characters: regular expressions, lengths, and what follows from them. Used for `regex`, for strings in
// schemas and for texts that end at a marker.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/grammar/rules.h"

namespace loraine::grammar {

inline constexpr char32_t kLastCharacter = 0x10FFFF;

struct CharacterRange {
  char32_t first, last;
  bool operator==(const CharacterRange&) const = default;
};

// Deterministic; state 0 begins; every state can be reached and can reach a final one. Without states: no text.
struct CharacterAutomaton {
  struct Edge {
    CharacterRange range;
    int32_t to;
  };
  struct State {
    std::vector<Edge> edges;  // ascending, disjoint; never a surrogate
    bool final = false;
  };
  std::vector<State> states;
  bool matches(std::string_view text) const;  // the whole text, which is UTF-8
};

// The whole text matches: ^ at the beginning and $ at the end say nothing. JSON Schema's dialect (ECMA 262), with Python's spelling of
// named groups; \d and \w are ASCII. Throws GrammarError invalid_regex (bad syntax, and what is not regular: back references, look-around,
// \b, anchors inside) and grammar_too_large.
CharacterAutomaton parse_regex(std::string_view pattern);
CharacterAutomaton of_length(int64_t least, int64_t most);  // in characters; most -1: any
CharacterAutomaton both(const CharacterAutomaton& a, const CharacterAutomaton& b);
CharacterAutomaton either(const CharacterAutomaton& a, const CharacterAutomaton& b);
CharacterAutomaton only(std::string_view text);
CharacterAutomaton any_but(const std::vector<std::string>& texts);  // all texts but these
CharacterAutomaton up_to(std::string_view marker);                  // texts whose only place with the marker is their end
CharacterAutomaton without(std::string_view marker);                // texts that hold it nowhere

std::vector<char32_t> characters_of(std::string_view utf8);
void append_utf8(std::string& out, char32_t c);

// The bytes of one character of the range, in UTF-8 as it is; no surrogates.
Rules::Node utf8_node(Rules& rules, CharacterRange range);

// The automaton as rules, each range written by `write`, a function from a range to a node.
template <class F>
Rules::Node graph_of(Rules& rules, const CharacterAutomaton& automaton, const F& write) {
  if (automaton.states.empty()) return rules.never();
  std::vector<Rules::Edge> edges;
  std::vector<int32_t> finals;
  for (size_t i = 0; i < automaton.states.size(); ++i) {
    if (automaton.states[i].final) finals.push_back(static_cast<int32_t>(i));
    for (const auto& edge : automaton.states[i].edges) edges.push_back({static_cast<int32_t>(i), edge.to, write(edge.range)});
  }
  return rules.graph(static_cast<int32_t>(automaton.states.size()), std::move(edges), std::move(finals));
}
Rules::Node utf8_graph(Rules& rules, const CharacterAutomaton& automaton);

// For parse_regex, in the file regex.cpp: an automaton that may be in several states at once.
struct CharacterNfa {
  struct State {
    std::vector<int32_t> empty;
    std::vector<CharacterAutomaton::Edge> edges;
  };
  std::vector<State> states;
  int32_t first = 0, last = 0;
};
CharacterAutomaton determined(const CharacterNfa& nfa);

}  // namespace loraine::grammar
