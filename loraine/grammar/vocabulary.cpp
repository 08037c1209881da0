// See vocabulary.h.
#include "loraine/grammar/vocabulary.h"

#include <algorithm>
#include <numeric>

#include "loraine/grammar/rules.h"

namespace loraine::grammar {

namespace {
constexpr size_t kLongestToken = 4096;
}

Vocabulary::Vocabulary(std::span<const TokenBytes> tokens, std::vector<int32_t> ends, bool drops_first_space)
    : ends_(std::move(ends)), drops_first_space_(drops_first_space) {
  std::sort(ends_.begin(), ends_.end());
  ends_.erase(std::unique(ends_.begin(), ends_.end()), ends_.end());
  offsets_.push_back(0);
  for (size_t id = 0; id < tokens.size(); ++id) {
    const TokenBytes& token = tokens[id];
    const bool usable = !token.bytes.empty() && token.bytes.size() <= kLongestToken && !is_end(static_cast<int32_t>(id));
    if (usable && token.special) bytes_ += special_token(token.bytes);
    // a token with a byte that is never text must not be taken for a part of a special one
    else if (usable && token.bytes.find_first_of("\xfe\xff") == std::string::npos) bytes_ += token.bytes;
    offsets_.push_back(bytes_.size());
  }
  for (const int32_t id : ends_)
    if (id < 0 || static_cast<size_t>(id) >= tokens.size())
      throw Error(ErrorKind::usage, "the id " + std::to_string(id) + ", which ends answers, is not in the vocabulary of " +
                                        std::to_string(tokens.size()) + " tokens");
  for (size_t id = 0; id < tokens.size(); ++id)
    if (!bytes(static_cast<int32_t>(id)).empty()) ids_.push_back(static_cast<int32_t>(id));
  std::sort(ids_.begin(), ids_.end(), [&](int32_t a, int32_t b) {
    const int order = bytes(a).compare(bytes(b));
    return order != 0 ? order < 0 : a < b;
  });
  nodes_.push_back({0, 0, 0, 0});
  std::vector<uint32_t> path{0};  // nodes from the root to the last token's
  std::string_view last;
  for (size_t i = 0; i < ids_.size(); ++i) {
    const std::string_view token = bytes(ids_[i]);
    longest_ = std::max(longest_, static_cast<int32_t>(token.size()));
    size_t common = 0;
    while (common < last.size() && common < token.size() && last[common] == token[common]) ++common;
    if (common == token.size() && common == last.size()) continue;  // of the same bytes
    for (; path.size() > common + 1; path.pop_back()) nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
    for (size_t depth = common; depth < token.size(); ++depth) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({0, static_cast<uint32_t>(i), static_cast<uint16_t>(depth + 1), static_cast<uint8_t>(token[depth])});
    }
    last = token;
  }
  for (; !path.empty(); path.pop_back()) nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back({static_cast<uint32_t>(nodes_.size()), static_cast<uint32_t>(ids_.size()), 0, 0});
}

bool Vocabulary::is_end(int32_t id) const { return std::binary_search(ends_.begin(), ends_.end(), id); }

}  // namespace loraine::grammar
