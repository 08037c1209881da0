// See bpe_crossings.h.
#include "loraine/text/tokenizer/bpe_crossings.h"

#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens {

static bool continues(char c) { return (static_cast<unsigned char>(c) & 0xC0u) == 0x80; }

static uint32_t packed(std::string_view bytes) {  // up to four
  uint32_t key = 0;
  for (char c : bytes) key = key << 8 | static_cast<unsigned char>(c);
  return key;
}

static size_t table_place(uint64_t key) {
  key ^= key >> 32, key *= 0xD6E8FEB86659FD93ull, key ^= key >> 32, key *= 0xD6E8FEB86659FD93ull;
  return key ^ (key >> 32);
}

uint32_t Crossings::key_of(std::string_view text, size_t& at) const {
  if (!bytes_) return next_char(text, at);
  auto first = static_cast<unsigned char>(text[at]);
  if (first < 0x80) return ++at, first;
  size_t length = char_bytes(first);
  uint32_t key = packed(text.substr(at, length));
  at += length;
  return key;
}

void Crossings::add(std::string_view left, std::string_view right) {
  if (left.empty() || right.empty()) return;
  uint32_t l = 0, r = 0;
  if (bytes_) {
    // A cut lies between whole characters: a merge whose right side begins inside one never reaches over it.
    if (continues(right[0])) return;
    size_t begin = left.size() - 1;
    while (begin > 0 && left.size() - begin < 4 && continues(left[begin])) --begin;
    l = packed(left.substr(begin));  // the last character, or what the token holds of it
    r = packed(right.substr(0, char_bytes(static_cast<unsigned char>(right[0]))));
  } else {
    size_t zero = 0;
    l = last_char(left);
    r = next_char(right, zero);
  }
  uint32_t row = near_index(l), column = near_index(r);
  if (row != kFar && column != kFar) near_[row / 32 * 512 + column] |= 1u << (row % 32);
  size_t bit = mixed(l, r) >> (64 - kFilterBits);
  filter_[bit / 64] |= uint64_t{1} << (bit % 64);
  insert(static_cast<uint64_t>(l) << 32 | r);
}

void Crossings::insert(uint64_t key) {
  if (2 * count_ > table_.size()) grow();
  size_t mask = table_.size() - 1, at = table_place(key) & mask;
  while (table_[at] != UINT64_MAX && table_[at] != key) at = (at + 1) & mask;
  count_ += table_[at] == UINT64_MAX;
  table_[at] = key;
}

void Crossings::grow() {
  std::vector<uint64_t> old(table_.size() * 4, UINT64_MAX);
  old.swap(table_);
  count_ = 0;
  for (uint64_t key : old)
    if (key != UINT64_MAX) insert(key);
}

bool Crossings::in_table(uint32_t left, uint32_t right) const {
  uint64_t key = static_cast<uint64_t>(left) << 32 | right;
  size_t mask = table_.size() - 1;
  for (size_t at = table_place(key) & mask; table_[at] != UINT64_MAX; at = (at + 1) & mask)
    if (table_[at] == key) return true;
  return false;
}

// What a merge may hold of the two characters: the left one or its last bytes, with the right one or its first bytes.
bool Crossings::parts_may_cross(uint32_t left, uint32_t right) const {
  for (uint32_t l = left;;) {
    for (uint32_t r = right; r != 0; r >>= 8)
      if (listed(l, r)) return true;
    if (right == 0 && listed(l, 0)) return true;
    if (l < 0x100) return false;
    l &= l < 0x10000 ? 0xFFu : l < 0x1000000 ? 0xFFFFu : 0xFFFFFFu;
  }
}

}  // namespace loraine::tokens
