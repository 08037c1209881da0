// The tokens of a BPE model, by id and by spelling: open addressing over one block of text. Part of bpe.h.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/text/tokenizer/tokenizer_json.h"

namespace loraine::tokens {

uint64_t hash_bytes(std::string_view text);

class Vocabulary {
 public:
  void read(const JsonObject& vocabulary, const Place& place);

  std::optional<int32_t> id_of(std::string_view token) const { return find(token, hash_bytes(token)); }
  std::optional<int32_t> find(std::string_view token, uint64_t hash) const;  // hash: hash_bytes(token)
  // Three steps that fetch what find() will read, for callers that look up many tokens: a step for all of them, then the next.
  void prefetch(uint64_t hash) const { __builtin_prefetch(&slots_[hash & (slots_.size() - 1)]); }
  void prefetch_token(uint64_t hash) const {
    if (int32_t id = slots_[hash & (slots_.size() - 1)].id; id >= 0) __builtin_prefetch(&tokens_[static_cast<size_t>(id)]);
  }
  void prefetch_text(uint64_t hash) const {
    if (int32_t id = slots_[hash & (slots_.size() - 1)].id; id >= 0) __builtin_prefetch(tokens_[static_cast<size_t>(id)].data());
  }
  std::optional<std::string_view> token_of(int32_t id) const;
  bool is(int32_t id, std::string_view begin, std::string_view end) const {  // the id's token is begin + end
    if (id < 0 || id >= size()) return false;
    std::string_view token = tokens_[static_cast<size_t>(id)];
    return !token.empty() && token.size() == begin.size() + end.size() && token.starts_with(begin) && token.ends_with(end);
  }
  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }  // one more than the largest id
  size_t longest() const { return longest_; }                            // bytes

 private:
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;
  };
  std::string text_;                      // what tokens_ points into
  std::vector<std::string_view> tokens_;  // by id; null data: no such id
  std::vector<Slot> slots_;               // a power of two
  size_t longest_ = 0;
};

}  // namespace loraine::tokens
