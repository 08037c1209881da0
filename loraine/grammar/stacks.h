// Stacks of an automaton that is being walked. A frame is a state, with what is left to count where the state is a loop, over the frame
// that it returns to; equal frames are one, so that a stack is the number of its top. Used by token_grammar.cpp and grammar_state.cpp.
#pragma once
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "loraine/grammar/automaton.h"

namespace loraine::grammar {

struct Frame {
  int32_t state;
  int32_t least = 0, most = 0;  // of a loop: how many more texts must and may come; most -1: any number
  int32_t below = -1;           // -1: nothing
  bool operator==(const Frame&) const = default;
};

class Frames {
 public:
  int32_t put(const Frame& frame);
  const Frame& operator[](int32_t number) const { return frames_[static_cast<size_t>(number)]; }
  size_t size() const { return frames_.size(); }

 private:
  struct Hash {
    size_t operator()(const Frame& f) const {
      size_t h = static_cast<uint32_t>(f.state) * 0x9E3779B97F4A7C15ull;
      h = (h ^ static_cast<uint32_t>(f.below)) * 0xC2B2AE3D27D4EB4Full;
      h = (h ^ static_cast<uint32_t>(f.least)) * 0x9E3779B97F4A7C15ull;
      h = (h ^ static_cast<uint32_t>(f.most)) * 0xC2B2AE3D27D4EB4Full;
      return h ^ (h >> 31);
    }
  };
  std::vector<Frame> frames_;
  std::unordered_map<Frame, int32_t, Hash> known_;
};

// Where a text may stand: the stacks whose top reads a byte next, ascending; `bottom`: one of them may also be empty by now.
struct Stacks {
  std::vector<int32_t> tops;
  bool bottom = false;
  bool dead() const { return tops.empty() && !bottom; }
  bool operator==(const Stacks&) const = default;
};

// The frame that begins at this state, which may be a loop's.
Frame first_frame(const Automaton& automaton, int32_t state, int32_t below = -1);
// Adds the frame and all that follows from it without a byte. Throws GrammarError grammar_too_large where more than 4,096 stacks are
// possible at once.
void enter(const Automaton& automaton, Frames& frames, const Frame& frame, Stacks& out);
// The stacks after one more byte.
Stacks step(const Automaton& automaton, Frames& frames, const Stacks& from, uint8_t byte);

}  // namespace loraine::grammar
