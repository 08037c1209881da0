// See added_tokens.h.
#include "loraine/text/tokenizer/added_tokens.h"

#include <algorithm>

#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens {

void TokenTrie::insert(std::string_view text, size_t value) {
  if (text.empty()) return;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    auto byte = static_cast<unsigned char>(text[i]);
    uint32_t& next = i == 0 ? root_[byte] : next_[static_cast<uint64_t>(node) * 256 + byte];
    if (next == 0) {
      next = static_cast<uint32_t>(values_.size());
      values_.push_back(kNone);
    }
    node = next;
  }
  next_.try_emplace(0, 0);  // not empty any more; key 0 is never asked for, since the root has its own table
  if (values_[node] == kNone) values_[node] = value;
}

size_t TokenTrie::longest(std::string_view text, size_t at, size_t& value) const {
  uint32_t node = root_[static_cast<unsigned char>(text[at])];
  size_t length = 0;
  for (size_t i = at + 1; node != 0; ++i) {
    if (values_[node] != kNone) length = i - at, value = values_[node];
    if (i >= text.size()) break;
    auto found = next_.find(static_cast<uint64_t>(node) * 256 + static_cast<unsigned char>(text[i]));
    node = found == next_.end() ? 0 : found->second;
  }
  return length;
}

// begin and end of the text around a match once the token's lstrip and rstrip took their spaces.
static size_t strip_left(std::string_view text, size_t begin, size_t floor) {
  while (begin > floor) {
    char32_t c = last_char(text.substr(0, begin));
    if (!is_space(c)) break;
    begin -= c < 0x80 ? 1 : c < 0x800 ? 2 : 3;
  }
  return std::max(begin, floor);
}

static size_t strip_right(std::string_view text, size_t end) {
  for (size_t at = end; at < text.size();) {
    if (!is_space(next_char(text, at))) break;
    end = at;
  }
  return end;
}

void each_piece(const TokenTrie& trie, const std::vector<AddedToken>& added, std::string_view text, bool split_special,
                const std::function<void(const AddedToken*, size_t, size_t)>& found) {
  size_t done = 0;
  for (size_t at = trie.empty() ? text.size() : 0; (at = trie.next_candidate(text, at)) < text.size();) {
    size_t index = 0, length = trie.longest(text, at, index);
    if (length == 0) {
      ++at;
      continue;
    }
    const AddedToken& token = added[index];
    size_t begin = at, end = at + length;
    at = end;
    if (split_special && token.special) continue;
    if (begin < done) continue;  // its start was taken by the rstrip of the token before
    if (token.single_word && ((begin > 0 && is_word(last_char(text.substr(0, begin)))) || [&] {
          size_t next = end;
          return end < text.size() && is_word(next_char(text, next));
        }()))
      continue;
    if (token.lstrip) begin = strip_left(text, begin, done);
    if (token.rstrip) end = strip_right(text, end);
    if (done < begin) found(nullptr, done, begin);
    found(&token, begin, end);
    done = end;
  }
  if (done < text.size()) found(nullptr, done, text.size());
}

}  // namespace loraine::tokens
