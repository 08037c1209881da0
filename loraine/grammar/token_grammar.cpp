// See token_grammar.h.
#include "loraine/grammar/token_grammar.h"

#include <algorithm>

namespace loraine::grammar {

struct TokenGrammar::Lazy {
  static constexpr int32_t kDead = -1, kUnknown = -2;
  static constexpr uint8_t kLeaves = 1, kEnds = 2;
  explicit Lazy(const Automaton& automaton) : a(automaton), classes(automaton.class_byte.size()) {}

  int32_t id_of(Stacks stacks) {
    if (stacks.dead()) return kDead;
    const auto [place, is_new] = known.try_emplace(stacks, static_cast<int32_t>(all.size()));
    if (is_new) {
      leaves.push_back(static_cast<uint8_t>((stacks.bottom ? kLeaves : 0) | (stacks.tops.empty() ? kEnds : 0)));
      all.push_back(std::move(stacks));
      next.resize(next.size() + classes, kUnknown);
    }
    return place->second;
  }
  // The frame at the bottom, alone. top: it reads a byte next; else all that follows from it.
  int32_t begin(Frame frame, bool top) {
    Stacks stacks;
    frame.below = -1;
    if (top) stacks.tops = {frames.put(frame)};
    else enter(a, frames, frame, stacks);
    return id_of(std::move(stacks));
  }
  int32_t make(int32_t from, uint8_t byte_class) {
    const int32_t to = id_of(step(a, frames, all[static_cast<size_t>(from)], a.class_byte[byte_class]));
    return next[static_cast<size_t>(from) * classes + byte_class] = to;
  }
  int32_t after(int32_t from, uint8_t byte) {
    const uint8_t byte_class = a.class_of[byte];
    const int32_t to = next[static_cast<size_t>(from) * classes + byte_class];
    return to != kUnknown ? to : make(from, byte_class);
  }
  int32_t both(int32_t one, int32_t other) {
    if (one == kDead || one == other) return other;
    const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(one)) << 32 | static_cast<uint32_t>(other);
    if (const auto found = unions.find(key); found != unions.end()) return found->second;
    const Stacks &x = all[static_cast<size_t>(one)], &y = all[static_cast<size_t>(other)];
    Stacks sum;
    std::set_union(x.tops.begin(), x.tops.end(), y.tops.begin(), y.tops.end(), std::back_inserter(sum.tops));
    sum.bottom = x.bottom || y.bottom;
    return unions[key] = id_of(std::move(sum));
  }
  size_t bytes() const { return all.size() * (classes * 4 + 160) + frames.size() * 80 + unions.size() * 40; }

  struct Hash {
    size_t operator()(const Stacks& s) const {
      size_t h = s.tops.size() * 2 + s.bottom;
      for (int32_t top : s.tops) h = (h ^ static_cast<size_t>(top)) * 0x9E3779B97F4A7C15ull;
      return h ^ (h >> 29);
    }
  };
  const Automaton& a;
  const size_t classes;
  Frames frames;
  std::vector<Stacks> all;
  std::vector<uint8_t> leaves;  // of each: whether one is empty (kLeaves), and no other is there (kEnds)
  std::unordered_map<Stacks, int32_t, Hash> known;
  std::vector<int32_t> next;  // [all, classes]
  std::unordered_map<uint64_t, int32_t> unions;
};

TokenGrammar::TokenGrammar(std::shared_ptr<const Automaton> automaton, std::shared_ptr<const Vocabulary> vocabulary, size_t cache_bytes)
    : automaton_(std::move(automaton)),
      vocabulary_(std::move(vocabulary)),
      cache_bytes_(cache_bytes),
      root_(std::make_unique<Entry>()),
      lazy_(std::make_shared<Lazy>(*automaton_)) {
  root_->open = {0};
}

// Beyond the bytes of the longest token it does not matter how many texts of a loop may still come.
Frame TokenGrammar::shortened(Frame frame) const {
  const int32_t enough = vocabulary_->longest() + 1;
  frame.below = -1;
  frame.least = std::min(frame.least, enough);
  if (frame.most > enough) frame.most = enough;
  return frame;
}

void TokenGrammar::allow(const Frames& frames, const Stacks& stacks, std::span<uint64_t> bits) const {
  const std::lock_guard lock(mutex_);
  if (counts_.bytes + lazy_->bytes() > cache_bytes_) {
    root_->below.clear();
    lazy_ = std::make_shared<Lazy>(*automaton_);
    counts_.bytes = 0;
  }
  for (const int32_t top : stacks.tops) {
    ++counts_.masks;
    const int64_t made = counts_.made;
    Entry* entry = &find(*root_, frames[top], true);
    for (int32_t frame = frames[top].below; frame >= 0 && !entry->open.empty(); frame = frames[frame].below)
      entry = &find(*entry, frames[frame], false);
    counts_.made = std::min(counts_.made, made + 1);
    for (size_t i = 0; i < bits.size(); ++i) bits[i] |= entry->bits[i];
  }
}

TokenGrammar::Entry& TokenGrammar::find(Entry& above, const Frame& full, bool is_top) const {
  const Frame frame = shortened(full);
  std::unique_ptr<Entry>& place = above.below[frame];
  if (place) return *place;
  auto made = std::make_unique<Entry>();
  made->bits = above.bits;
  made->bits.resize(vocabulary_->words());
  walk(above.open, lazy_->begin(frame, is_top), *made);
  ++counts_.made;
  counts_.bytes += made->bits.size() * 8 + made->open.size() * 4 + 200;
  place = std::move(made);
  return *place;
}

// From each of these nodes on, whose own bytes are read, with the stacks `start`.
void TokenGrammar::walk(std::span<const uint32_t> from, int32_t start, Entry& out) const {
  Lazy& lazy = *lazy_;
  const std::span<const Vocabulary::Node> nodes = vocabulary_->nodes();
  const int32_t* ids = vocabulary_->ids().data();
  uint64_t* bits = out.bits.data();
  std::vector<int32_t> at(static_cast<size_t>(vocabulary_->longest()) + 1, Lazy::kDead);  // by depth: the stacks behind the path's bytes
  const bool leaves_at_once = lazy.all[static_cast<size_t>(start)].bottom;
  size_t next_from = 0;
  while (next_from < from.size()) {
    const uint32_t origin = from[next_from++];
    const uint32_t end = nodes[origin].end;
    at[nodes[origin].depth] = start;
    if (leaves_at_once) out.open.push_back(origin);
    for (uint32_t i = origin + 1; i < end;) {
      const Vocabulary::Node& node = nodes[i];
      const int32_t before = at[node.depth - 1u];
      int32_t here = before == Lazy::kDead ? Lazy::kDead : lazy.after(before, node.byte);
      if (here != Lazy::kDead)
        for (uint32_t k = node.first_id, last = nodes[i + 1].first_id; k < last; ++k)
          bits[static_cast<uint32_t>(ids[k]) / 64] |= 1ull << (ids[k] & 63);
      if (next_from < from.size() && from[next_from] == i) {
        ++next_from;
        here = lazy.both(here, start);
      }
      if (here == Lazy::kDead) {
        if (next_from == from.size() || from[next_from] >= node.end) {
          i = node.end;
          continue;
        }
        const uint32_t inside = from[next_from++];  // the walk goes on at a node further down
        std::fill(at.begin() + node.depth, at.begin() + nodes[inside].depth, Lazy::kDead);
        at[nodes[inside].depth] = start;
        if (leaves_at_once) out.open.push_back(inside);
        i = inside + 1;
        continue;
      }
      at[node.depth] = here;
      const uint8_t leaves = lazy.leaves[static_cast<size_t>(here)];
      if (leaves == 0) {
        ++i;
        continue;
      }
      if (leaves & Lazy::kLeaves) out.open.push_back(i);
      i = (leaves & Lazy::kEnds) && (next_from == from.size() || from[next_from] >= node.end) ? node.end : i + 1;
    }
  }
}

TokenGrammar::Counts TokenGrammar::counts() const {
  const std::lock_guard lock(mutex_);
  Counts counts = counts_;
  counts.bytes += lazy_->bytes();
  return counts;
}

}  // namespace loraine::grammar
