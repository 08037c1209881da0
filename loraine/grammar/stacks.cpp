// See stacks.h.
#include "loraine/grammar/stacks.h"

#include <algorithm>

namespace loraine::grammar {
namespace {

constexpr size_t kMostStacks = 4096;

// `todo` holds frames that were entered; frames are looked at once.
void follow(const Automaton& a, Frames& frames, std::vector<Frame>& todo, Stacks& out) {
  std::vector<Frame> seen;  // few, as a rule
  while (!todo.empty()) {
    const Frame frame = todo.back();
    todo.pop_back();
    if (std::find(seen.begin(), seen.end(), frame) != seen.end()) continue;
    seen.push_back(frame);
    if (seen.size() > kMostStacks)
      throw GrammarError("grammar_too_large", "", "the grammar is ambiguous: more than 4096 ways of reading a text are open at once");
    const Automaton::State& s = a.states[static_cast<size_t>(frame.state)];
    const auto call = [&](int32_t rule, int32_t below) { todo.push_back(first_frame(a, a.starts[static_cast<size_t>(rule)], below)); };
    const auto leave = [&] {
      if (frame.below < 0) out.bottom = true;
      else todo.push_back(frames[frame.below]);
    };
    if (s.loop >= 0) {
      if (frame.least == 0) leave();
      if (frame.most == 0) continue;
      Frame rest = frame;
      rest.least = std::max(frame.least - 1, 0);
      rest.most = frame.most < 0 ? -1 : frame.most - 1;
      call(a.loops[static_cast<size_t>(s.loop)].rule, rest.most == 0 ? frame.below : frames.put(rest));
      continue;
    }
    if (s.edges < s.edges_end) out.tops.push_back(frames.put(frame));
    for (uint32_t c = s.calls; c < s.calls_end; ++c) {
      const int32_t to = a.calls[c].to;  // where nothing comes after the call, its end is the end of this one
      call(a.calls[c].rule, a.states[static_cast<size_t>(to)].only_final() ? frame.below : frames.put({to, 0, 0, frame.below}));
    }
    if (s.final) leave();
  }
  std::sort(out.tops.begin(), out.tops.end());
  out.tops.erase(std::unique(out.tops.begin(), out.tops.end()), out.tops.end());
  if (out.tops.size() > kMostStacks)
    throw GrammarError("grammar_too_large", "", "the grammar is ambiguous: more than 4096 ways of reading a text are open at once");
}

}  // namespace

int32_t Frames::put(const Frame& frame) {
  const auto [place, is_new] = known_.try_emplace(frame, static_cast<int32_t>(frames_.size()));
  if (is_new) frames_.push_back(frame);
  return place->second;
}

Frame first_frame(const Automaton& a, int32_t state, int32_t below) {
  Frame frame{state, 0, 0, below};
  if (const int32_t loop = a.states[static_cast<size_t>(state)].loop; loop >= 0) {
    frame.least = a.loops[static_cast<size_t>(loop)].least;
    frame.most = a.loops[static_cast<size_t>(loop)].most;
  }
  return frame;
}

void enter(const Automaton& a, Frames& frames, const Frame& frame, Stacks& out) {
  std::vector<Frame> todo{frame};
  follow(a, frames, todo, out);
}

Stacks step(const Automaton& a, Frames& frames, const Stacks& from, uint8_t byte) {
  std::vector<Frame> todo;
  for (const int32_t top : from.tops) {
    const Frame frame = frames[top];
    const Automaton::State& s = a.states[static_cast<size_t>(frame.state)];
    const auto begin = a.edges.begin() + s.edges, end = a.edges.begin() + s.edges_end;
    const auto edge = std::upper_bound(begin, end, byte, [](uint8_t b, const Automaton::Edge& e) { return b < e.first; });
    if (edge == begin || (edge - 1)->last < byte) continue;
    todo.push_back({(edge - 1)->to, 0, 0, frame.below});
  }
  Stacks out;
  follow(a, frames, todo, out);
  return out;
}

}  // namespace loraine::grammar
