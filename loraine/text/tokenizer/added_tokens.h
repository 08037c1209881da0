// Tokens matched in the text before anything else, such as <|im_start|>: leftmost, then longest, through a byte trie. Called by
// tokenizer.cpp.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace loraine::tokens {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false, normalized = false, single_word = false, lstrip = false, rstrip = false;
};

class TokenTrie {
 public:
  void insert(std::string_view text, size_t value);  // value: an index of the caller; the first one of a text stays
  // The longest entry that begins at `at`: its length, 0 for none.
  size_t longest(std::string_view text, size_t at, size_t& value) const;
  // The first place from `at` on where an entry may begin; the text's end if there is none.
  size_t next_candidate(std::string_view text, size_t at) const {
    while (at < text.size() && root_[static_cast<unsigned char>(text[at])] == 0) ++at;
    return at;
  }
  bool empty() const { return next_.empty(); }

 private:
  static constexpr size_t kNone = SIZE_MAX;
  std::array<uint32_t, 256> root_{};             // node after the first byte, 0 for none
  std::unordered_map<uint64_t, uint32_t> next_;  // node * 256 + byte → node
  std::vector<size_t> values_ = {kNone};         // per node; 0 is the root
};

// Cuts text into pieces: found(token or nullptr, begin, end), in order, no piece empty.
// split_special: tokens marked special are not matched (what they would have covered stays text).
void each_piece(const TokenTrie& trie, const std::vector<AddedToken>& added, std::string_view text, bool split_special,
                const std::function<void(const AddedToken*, size_t, size_t)>& found);

}  // namespace loraine::tokens
