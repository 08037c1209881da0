// See bpe_vocabulary.h.
#include "loraine/text/tokenizer/bpe_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace loraine::tokens {

uint64_t hash_bytes(std::string_view text) {
  uint64_t h = text.size() * 0x9E3779B97F4A7C15ull;
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t part;
    std::memcpy(&part, text.data() + i, 8);
    h = std::rotl(h ^ part, 29) * 0x9FB21C651E98DF25ull;
  }
  uint64_t rest = 0;
  if (i < text.size()) std::memcpy(&rest, text.data() + i, text.size() - i);
  h ^= rest;
  h ^= h >> 32, h *= 0xD6E8FEB86659FD93ull, h ^= h >> 32, h *= 0xD6E8FEB86659FD93ull;
  return h ^ (h >> 32);
}

void Vocabulary::read(const JsonObject& vocabulary, const Place& place) {
  size_t count = 0, bytes = 0;
  for (auto field : vocabulary) ++count, bytes += field.key.size();
  if (count == 0) fail(place, "is empty");
  int64_t limit = static_cast<int64_t>(count) * 2 + 1'000'000;
  text_.reserve(bytes);
  tokens_.reserve(count);
  slots_.resize(std::bit_ceil(std::max<size_t>(16, count + count / 2)));
  size_t mask = slots_.size() - 1;
  for (auto field : vocabulary) {
    int64_t id = -1;
    if (field.value.get_int64().get(id) || id < 0 || id >= limit)
      fail(place, fmt::format("\"{}\" has no id between 0 and {}", field.key.substr(0, 100), limit - 1));
    size_t begin = text_.size();
    text_ += field.key;
    std::string_view token(text_.data() + begin, field.key.size());
    if (static_cast<size_t>(id) >= tokens_.size()) tokens_.resize(static_cast<size_t>(id) + 1);
    if (const std::string_view other = tokens_[static_cast<size_t>(id)]; other.data() != nullptr)
      fail(place, fmt::format("\"{}\" and \"{}\" both have id {}; every token needs one of its own", other.substr(0, 100),
                              token.substr(0, 100), id));
    tokens_[static_cast<size_t>(id)] = token;
    longest_ = std::max(longest_, token.size());
    uint64_t hash = hash_bytes(token);
    auto high = static_cast<uint32_t>(hash >> 32);
    size_t at = hash & mask;
    while (slots_[at].id >= 0 && (slots_[at].hash != high || tokens_[static_cast<size_t>(slots_[at].id)] != token)) at = (at + 1) & mask;
    if (slots_[at].id >= 0)
      fail(place, fmt::format("\"{}\" stands twice, with ids {} and {}; which one counts would be a guess", token.substr(0, 100),
                              slots_[at].id, id));
    slots_[at] = {high, static_cast<int32_t>(id)};
  }
}

std::optional<int32_t> Vocabulary::find(std::string_view token, uint64_t hash) const {
  size_t mask = slots_.size() - 1;
  auto high = static_cast<uint32_t>(hash >> 32);
  for (size_t at = hash & mask; slots_[at].id >= 0; at = (at + 1) & mask)
    if (slots_[at].hash == high && tokens_[static_cast<size_t>(slots_[at].id)] == token) return slots_[at].id;
  return std::nullopt;
}

std::optional<std::string_view> Vocabulary::token_of(int32_t id) const {
  if (id < 0 || id >= size() || tokens_[static_cast<size_t>(id)].data() == nullptr) return std::nullopt;
  return tokens_[static_cast<size_t>(id)];
}

}  // namespace loraine::tokens
