// A grammar over the tokens of a vocabulary: which of them may come next. What may come depends on the upper frames of a stack only, as far
// down as tokens reach; a mask is made once for those and kept. Any number of sequences use one at the same time.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "loraine/grammar/automaton.h"
#include "loraine/grammar/stacks.h"
#include "loraine/grammar/vocabulary.h"

namespace loraine::grammar {

class TokenGrammar {
 public:
  // cache_bytes: what kept masks and states may take; when it is full all are made anew.
  TokenGrammar(std::shared_ptr<const Automaton> automaton, std::shared_ptr<const Vocabulary> vocabulary, size_t cache_bytes = 64 << 20);

  const Automaton& automaton() const { return *automaton_; }
  const Vocabulary& vocabulary() const { return *vocabulary_; }

  // Sets the bits of the tokens that may come next on these stacks; ends of the answer are not among them. bits: [vocabulary().words()].
  void allow(const Frames& frames, const Stacks& stacks, std::span<uint64_t> bits) const;

  struct Counts {
    int64_t masks = 0, made = 0;  // masks asked for (one for each stack), and those of them that no kept one answered
    size_t bytes = 0;             // kept now
  };
  Counts counts() const;

 private:
  // Stacks over a bottom that is not known, and where each byte leads: a deterministic automaton made as far as it is walked.
  struct Lazy;
  // The mask of the frames from the top down to some depth.
  struct Entry {
    std::vector<uint64_t> bits;
    std::vector<uint32_t> open;  // nodes of the trie, ascending, where the last of the frames is left: what comes then depends on the next
    struct Hash {
      size_t operator()(const Frame& f) const {
        return (static_cast<uint32_t>(f.state) * 0x9E3779B97F4A7C15ull) ^ (static_cast<uint32_t>(f.least) * 0xC2B2AE3D27D4EB4Full) ^
               (static_cast<uint32_t>(f.most) * 0x165667B19E3779F9ull);
      }
    };
    std::unordered_map<Frame, std::unique_ptr<Entry>, Hash> below;
  };
  Entry& find(Entry& above, const Frame& frame, bool is_top) const;
  void walk(std::span<const uint32_t> from, int32_t start, Entry& out) const;
  Frame shortened(Frame frame) const;

  std::shared_ptr<const Automaton> automaton_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  size_t cache_bytes_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<Entry> root_;
  mutable std::shared_ptr<Lazy> lazy_;
  mutable Counts counts_;
};

}  // namespace loraine::grammar
