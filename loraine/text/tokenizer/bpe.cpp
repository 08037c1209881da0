// See bpe.h. Reading the model is in bpe_model.cpp.
#include "loraine/text/tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/text/tokenizer/bpe_cache.h"
#include "loraine/text/tokenizer/bpe_queue.h"
#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens {

int32_t Bpe::id_of_char(char32_t c, std::string_view spelling) const {
  return c < kBmp ? first_ids_[c] : vocabulary_.id_of(spelling).value_or(-1);
}

std::optional<int32_t> Bpe::whole_word(std::string_view word) const {
  if (!ignore_merges_ || word.size() > vocabulary_.longest()) return std::nullopt;
  if (!bytes_) return vocabulary_.id_of(word);
  char block[512];  // a stand-in has at most two bytes
  if (word.size() > sizeof block / 2) {
    std::string spelled;
    append_printable(spelled, word);
    return vocabulary_.id_of(spelled);
  }
  return vocabulary_.id_of({block, write_printable(word, block)});
}

void Bpe::encode_word(std::string_view word, std::vector<int32_t>& ids) const {
  thread_local WordCache cache;
  cache.belong_to(serial_);
  // Few merges join characters of scripts with many of them: their parts come back far more often than whole words.
  constexpr size_t kCutAbove = WordCache::kLongest, kCutForeignAbove = 8;
  bool foreign = bytes_ && word.size() > kCutForeignAbove && static_cast<unsigned char>(word[word.size() - 1]) >= 0x80;
  if (!can_cut_ || (word.size() <= kCutAbove && !foreign)) return encode_part(word, false, cache, ids);
  if (auto id = whole_word(word)) return ids.push_back(*id);
  encode_cut(word, cache, ids);
}

// Cuts between two characters that no merge joins. Where a character may be unknown, both must be tokens themselves: unknown ones and
// those spelled with <0x00> … look at their neighbours.
void Bpe::encode_cut(std::string_view word, WordCache& cache, std::vector<int32_t>& ids) const {
  size_t begin = 0, at = 0;
  uint32_t left = crossings_.key_of(word, at);
  bool left_known = all_known_ || id_of_char(left, word.substr(0, at)) >= 0;
  while (at < word.size()) {
    size_t here = at;
    uint32_t right = crossings_.key_of(word, at);
    bool right_known = all_known_ || id_of_char(right, word.substr(here, at - here)) >= 0;
    if (left_known && right_known && !crossings_.may_cross(left, right)) {
      encode_part(word.substr(begin, here - begin), ignore_merges_, cache, ids);
      begin = here;
    }
    left = right;
    left_known = right_known;
  }
  encode_part(word.substr(begin), ignore_merges_, cache, ids);
}

void Bpe::encode_part(std::string_view word, bool part, WordCache& cache, std::vector<int32_t>& ids) const {
  auto encode = [&](std::vector<int32_t>& out) {
    if (!part)
      if (auto id = whole_word(word)) return out.push_back(*id);
    encode_uncached(word, out);
  };
  if (word.empty() || word.size() > WordCache::kLongest) encode(ids);
  else cache.append(word, part, ids, encode);
}

void Bpe::encode_uncached(std::string_view word, std::vector<int32_t>& ids) const {
  if (!encode_short(word, ids)) encode_merging(word, ids);
}

namespace {

// Ids of a word in their places, linked, with the rank of the pair that begins at each. Blocks of eight know their lowest rank, so that
// a merge looks at few of them.
struct Symbols {
  static constexpr size_t kMost = 128;
  int32_t ids[kMost];
  uint32_t ranks[kMost];
  uint8_t next[kMost], previous[kMost];
  uint32_t lowest[kMost / 8];
  size_t count = 0;

  void refresh(size_t k) {
    const uint32_t* r = ranks + (k & ~size_t{7});
    uint32_t x = std::min(std::min(r[0], r[1]), std::min(r[2], r[3])), y = std::min(std::min(r[4], r[5]), std::min(r[6], r[7]));
    lowest[k / 8] = std::min(x, y);
  }
  void consider(size_t k, const MergeTable& merges) {
    ranks[k] = next[k] < count ? merges.rank_of(ids[k], ids[next[k]]) : MergeTable::kNone;
  }
};

// Merges until nothing merges: the lowest rank first, then the leftmost. The order is encode_merging's: a pair that changed spells a
// longer text, so a stale candidate there never merges.
void merge_all(Symbols& s, const MergeTable& merges) {
  size_t blocks = (s.count + 7) / 8;
  for (size_t k = 0; k < s.count; ++k) s.next[k] = static_cast<uint8_t>(k + 1), s.previous[k] = static_cast<uint8_t>(k - 1);
  for (size_t k = s.count - 1; k < blocks * 8; ++k) s.ranks[k] = MergeTable::kNone;
  for (size_t k = 0; k < blocks; ++k) s.refresh(k * 8);
  for (;;) {
    size_t block = 0;
    for (size_t k = 1; k < blocks; ++k)
      if (s.lowest[k] < s.lowest[block]) block = k;
    if (s.lowest[block] == MergeTable::kNone) return;
    size_t best = block * 8;
    while (s.ranks[best] != s.lowest[block]) ++best;
    size_t gone = s.next[best];
    s.ids[best] = merges.joined(s.ranks[best]);
    s.ranks[gone] = MergeTable::kNone;
    s.next[best] = s.next[gone];
    if (s.next[gone] < s.count) s.previous[s.next[gone]] = static_cast<uint8_t>(best);
    s.consider(best, merges);
    if (best > 0) {
      s.consider(s.previous[best], merges);
      s.refresh(s.previous[best]);
    }
    s.refresh(best);
    if (gone / 8 != best / 8) s.refresh(gone);
  }
}

struct Linked {
  int32_t id, previous, next;
  bool alive;
};

}  // namespace

// Words of up to 128 characters that are tokens: the lowest rank is found by looking at all, which beats a queue here.
bool Bpe::encode_short(std::string_view word, std::vector<int32_t>& ids) const {
  if (!can_cut_ || word.empty() || word.size() > 4 * Symbols::kMost) return false;
  Symbols s;
  char32_t left = kFirst;
  for (size_t at = 0; at < word.size(); ++s.count) {
    if (s.count + 4 > Symbols::kMost) return false;
    size_t begin = at;
    char32_t c = bytes_ ? static_cast<unsigned char>(word[at++]) : next_char(word, at);
    int32_t id = id_of_char(c, word.substr(begin, at - begin));
    if (id < 0 && !all_known_) return false;
    if (id < 0) {  // its bytes, which merge with nothing
      if (s.count > 0) s.ranks[s.count - 1] = MergeTable::kNone;
      for (; begin < at; ++begin, ++s.count) {
        s.ids[s.count] = byte_fallback_ids_[static_cast<unsigned char>(word[begin])];
        s.ranks[s.count] = MergeTable::kNone;
      }
      --s.count;
      left = kBmp;
      continue;
    }
    s.ids[s.count] = id;
    if (s.count > 0)
      s.ranks[s.count - 1] = c < kFirst && left < kFirst ? first_ranks_[left * kFirst + c] : merges_.rank_of(s.ids[s.count - 1], id);
    left = c;
  }
  if (s.count == 1) {
    ids.push_back(s.ids[0]);
    return true;
  }
  merge_all(s, merges_);
  for (size_t k = 0; k < s.count; k = s.next[k]) ids.push_back(s.ids[k]);
  return true;
}

// The ids that merging begins with: characters, bytes of characters that are no token, the unknown token.
void Bpe::spell_symbols(std::string_view word, std::vector<int32_t>& symbols) const {
  bool unknown_waits = false;
  std::string spelled;
  for (size_t at = 0; at < word.size();) {
    size_t begin = at;
    char32_t c = bytes_ ? static_cast<unsigned char>(word[at++]) : next_char(word, at);
    if (can_cut_ && c < kBmp && first_ids_[c] >= 0 && !unknown_waits) {
      symbols.push_back(first_ids_[c]);
      continue;
    }
    std::string_view piece = word.substr(begin, at - begin);
    if ((begin > 0 && !prefix_.empty()) || (at == word.size() && !suffix_.empty())) {
      spelled = (begin > 0 ? prefix_ : "") + std::string(piece) + (at == word.size() ? suffix_ : "");
      piece = spelled;
    }
    if (auto id = vocabulary_.id_of(piece)) {
      if (unknown_waits) symbols.push_back(unknown_);
      unknown_waits = false;
      symbols.push_back(*id);
      continue;
    }
    auto byte_id = [&](char b) { return byte_fallback_ids_[static_cast<unsigned char>(b)]; };
    if (byte_fallback_ && std::all_of(piece.begin(), piece.end(), [&](char b) { return byte_id(b) >= 0; })) {
      for (char b : piece) symbols.push_back(byte_id(b));
      continue;
    }
    if (!has_unknown_) continue;  // characters that nothing stands for vanish
    if (unknown_ < 0) throw Error(ErrorKind::bad_data, "the tokenizer's unk_token is not in its vocabulary, and the text needs it");
    if (unknown_waits && !fuse_unknown_) symbols.push_back(unknown_);
    unknown_waits = true;
  }
  if (unknown_waits) symbols.push_back(unknown_);
}

// The library's order exactly: the lowest rank first, then the leftmost; a candidate whose pair changed meanwhile still merges
// when the new pair gives the same token.
void Bpe::encode_merging(std::string_view word, std::vector<int32_t>& ids) const {
  if (word.size() >= INT32_MAX) throw Error(ErrorKind::bad_data, fmt::format("a text of {} bytes is too long to tokenize", word.size()));
  thread_local std::vector<int32_t> spelling;
  thread_local std::vector<Linked> symbols;
  thread_local MergeQueue queue;
  spelling.clear(), symbols.clear(), queue.clear();
  spell_symbols(word, spelling);
  if (spelling.empty()) return;
  for (auto n = static_cast<int32_t>(0); int32_t id : spelling) symbols.push_back({id, n - 1, n + 1, true}), ++n;
  symbols.back().next = -1;

  auto symbol = [&](int32_t at) -> Linked& { return symbols[static_cast<size_t>(at)]; };
  auto consider = [&](int32_t at) {
    uint32_t rank = merges_.rank_of(symbol(at).id, symbol(symbol(at).next).id);
    if (rank != MergeTable::kNone) queue.push(rank, static_cast<uint32_t>(at));
  };
  for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols.size()); ++i) consider(i);
  for (uint32_t waiting = 0, place = 0; queue.pop(waiting, place);) {
    auto at = static_cast<int32_t>(place);
    int32_t joined = merges_.joined(waiting);
    Linked& left = symbol(at);
    if (!left.alive || left.next < 0) continue;
    Linked& right = symbol(left.next);
    uint32_t rank = merges_.rank_of(left.id, right.id);
    if (rank == MergeTable::kNone || merges_.joined(rank) != joined) continue;
    left.id = joined;
    right.alive = false;
    left.next = right.next;
    if (left.next >= 0) symbol(left.next).previous = at;
    if (left.previous >= 0) consider(left.previous);
    if (left.next >= 0) consider(at);
  }
  for (int32_t i = 0; i >= 0; i = symbol(i).next) ids.push_back(symbol(i).id);
}

}  // namespace loraine::tokens
