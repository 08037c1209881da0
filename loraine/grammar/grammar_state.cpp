// See grammar_state.h.
#include "loraine/grammar/grammar_state.h"

#include <algorithm>

namespace loraine::grammar {

namespace {
constexpr size_t kTidyFrames = 4096;
}

GrammarState::GrammarState(std::shared_ptr<const TokenGrammar> grammar) : grammar_(std::move(grammar)) {
  const Automaton& a = grammar_->automaton();
  enter(a, frames_, first_frame(a, grammar_->vocabulary().drops_first_space() ? a.spaced_start : a.start), stacks_);
}

void GrammarState::fill(std::span<uint64_t> bits) {
  const Vocabulary& vocabulary = grammar_->vocabulary();
  if (bits.size() != vocabulary.words())
    throw Error(ErrorKind::internal,
                "a mask of " + std::to_string(bits.size()) + " words for " + std::to_string(vocabulary.size()) + " tokens");
  std::fill(bits.begin(), bits.end(), 0);
  if (!ended_) grammar_->allow(frames_, stacks_, bits);
  bool ends = ended_ || stacks_.bottom;
  if (!ends) stuck_ = ends = std::all_of(bits.begin(), bits.end(), [](uint64_t word) { return word == 0; });
  if (!ends) return;
  for (const int32_t id : vocabulary.ends()) bits[static_cast<size_t>(id) / 64] |= 1ull << (id & 63);
}

bool GrammarState::accept(int32_t id) {
  const Vocabulary& vocabulary = grammar_->vocabulary();
  if (vocabulary.is_end(id)) {
    if (!ended_ && !stacks_.bottom && !stuck_) return false;
    return ended_ = true;
  }
  if (ended_ || id < 0 || static_cast<size_t>(id) >= vocabulary.size() || vocabulary.bytes(id).empty()) return false;
  return accept_text(vocabulary.bytes(id));
}

bool GrammarState::accept_text(std::string_view bytes) {
  Stacks stacks = stacks_;
  for (const char byte : bytes) {
    stacks = step(grammar_->automaton(), frames_, stacks, static_cast<uint8_t>(byte));
    if (stacks.dead()) return false;
  }
  stacks_ = std::move(stacks);
  if (frames_.size() > kTidyFrames) tidy();
  return true;
}

// Only the frames of the stacks that are left.
void GrammarState::tidy() {
  Frames kept;
  std::vector<Frame> path;
  for (int32_t& top : stacks_.tops) {
    path.clear();
    for (int32_t frame = top; frame >= 0; frame = frames_[frame].below) path.push_back(frames_[frame]);
    int32_t below = -1;
    for (; !path.empty(); path.pop_back()) {
      path.back().below = below;
      below = kept.put(path.back());
    }
    top = below;
  }
  std::sort(stacks_.tops.begin(), stacks_.tops.end());
  frames_ = std::move(kept);
}

}  // namespace loraine::grammar
