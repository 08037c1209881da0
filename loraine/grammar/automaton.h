// The byte-level pushdown automaton of a grammar: the rules' deterministic automata, and calls between them. Made once by `compile`, never
// changed, walked by stacks.h.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "loraine/grammar/rules.h"

namespace loraine::grammar {

struct Automaton {
  struct Edge {
    uint8_t first, last;  // bytes
    int32_t to;
  };
  struct Call {
    int32_t rule, to;
  };
  struct State {
    uint32_t edges = 0, edges_end = 0;  // in `edges`: sorted, disjoint
    uint32_t calls = 0, calls_end = 0;  // in `calls`
    bool final = false;
    int32_t loop = -1;  // of `loops`: this state stands for a counted rule
    bool only_final() const { return final && edges == edges_end && calls == calls_end && loop < 0; }
  };
  struct Loop {
    int32_t rule;
    int32_t least, most;  // most: -1 for any number
  };
  std::vector<State> states;
  std::vector<Edge> edges;
  std::vector<Call> calls;
  std::vector<Loop> loops;
  std::vector<int32_t> starts;  // of each rule, -1 where nothing can be derived
  int32_t start = 0;            // of the root
  int32_t spaced_start = 0;     // of the root behind one space or none
  // Bytes that no edge tells apart are one class.
  std::array<uint8_t, 256> class_of{};
  std::vector<uint8_t> class_byte;  // a byte of each class
};

// Every state left can reach the end, so a walk never gets stuck. Throws GrammarError: grammar_too_large, or unsupported_schema where a
// rule calls itself with nothing before it or no text is possible at all.
std::shared_ptr<const Automaton> compile(const Rules& rules, Rules::Rule root);

}  // namespace loraine::grammar
