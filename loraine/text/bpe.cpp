// See bpe.h.
#include "loraine/text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>

#include "loraine/text/unicode.h"

namespace loraine::tokens {

static constexpr size_t kCutAbove = 62;  // bytes: longer words are cut where no merge crosses

static uint64_t mix(uint64_t x) {
  x ^= x >> 32, x *= 0xD6E8FEB86659FD93ull, x ^= x >> 32, x *= 0xD6E8FEB86659FD93ull;
  return x ^ (x >> 32);
}

static uint64_t hash_bytes(std::string_view text) {
  uint64_t h = text.size() * 0x9E3779B97F4A7C15ull;
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t part;
    std::memcpy(&part, text.data() + i, 8);
    h = std::rotl(h ^ part, 29) * 0x9FB21C651E98DF25ull;
  }
  uint64_t rest = 0;
  if (i < text.size()) std::memcpy(&rest, text.data() + i, text.size() - i);
  return mix(h ^ rest);
}

// Place of a pair of ids in the filter; independent of its place in the table.
static constexpr int kFilterBits = 21;
static size_t filter_bit(uint64_t pair) { return (pair ^ pair >> 23) * 0xD6E8FEB86659FD93ull >> (64 - kFilterBits); }

static size_t table_size(size_t entries) { return std::bit_ceil(std::max<size_t>(16, entries + entries / 2)); }

Bpe::Bpe(const Json& model, const Place& place) {
  JsonObject object = as_object(model, place);
  std::string type = get_string_or(object, "type", "BPE", place);  // older files leave it out
  if (type != "BPE") fail_unknown(place, "model type", type);
  check_keys(object,
             {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
              "ignore_merges", "vocab", "merges"},
             place);
  if (has(object, "dropout")) {
    double dropout = 0;
    if (get(object, "dropout", place).get_double().get(dropout) || dropout != 0)
      fail(place, "\"dropout\" is not 0 or null: encoding at random is not supported");
  }
  prefix_ = get_string_or(object, "continuing_subword_prefix", "", place);
  suffix_ = get_string_or(object, "end_of_word_suffix", "", place);
  fuse_unknown_ = get_bool_or(object, "fuse_unk", false, place);
  byte_fallback_ = get_bool_or(object, "byte_fallback", false, place);
  ignore_merges_ = get_bool_or(object, "ignore_merges", false, place);
  read_vocabulary(as_object(get(object, "vocab", place), place.in("vocab")), place.in("vocab"));
  has_unknown_ = has(object, "unk_token");
  if (has_unknown_) unknown_ = id_of(get_string(object, "unk_token", place)).value_or(-1);
  for (int b = 0; b < 256; ++b) byte_ids_[b] = id_of(fmt::format("<0x{:02X}>", b)).value_or(-1);
  for (char32_t c = 0; c < kCharIds; ++c) {
    std::string text;
    append_char(text, c);
    char_ids_[c] = id_of(text).value_or(-1);
  }
  first_merges_.assign(size_t{kCharIds} * kCharIds, {UINT32_MAX, -1});
  read_merges(get_array(object, "merges", place), place.in("merges"));
  can_cut_ = prefix_.empty() && suffix_.empty();
  static std::atomic<uint64_t> next_serial{1};
  serial_ = next_serial++;
}

void Bpe::read_vocabulary(const JsonObject& vocabulary, const Place& place) {
  size_t count = 0, bytes = 0;
  for (auto field : vocabulary) ++count, bytes += field.key.size();
  if (count == 0) fail(place, "is empty");
  int64_t limit = static_cast<int64_t>(count) * 2 + 1'000'000;
  std::string& text = storage_.emplace_back();
  text.reserve(bytes);
  tokens_.reserve(count);
  slots_.resize(table_size(count));
  for (auto field : vocabulary) {
    int64_t id = -1;
    if (field.value.get_int64().get(id) || id < 0 || id >= limit)
      fail(place, fmt::format("\"{}\" has no id between 0 and {}", field.key.substr(0, 100), limit - 1));
    size_t begin = text.size();
    text += field.key;
    std::string_view token(text.data() + begin, field.key.size());
    if (static_cast<size_t>(id) >= tokens_.size()) tokens_.resize(static_cast<size_t>(id) + 1);
    tokens_[static_cast<size_t>(id)] = token;
    longest_token_ = std::max(longest_token_, token.size());
    uint64_t hash = hash_bytes(token);
    size_t mask = slots_.size() - 1, at = hash & mask;
    while (slots_[at].id >= 0 &&
           (slots_[at].hash != static_cast<uint32_t>(hash >> 32) || tokens_[static_cast<size_t>(slots_[at].id)] != token))
      at = (at + 1) & mask;
    slots_[at] = {static_cast<uint32_t>(hash >> 32), static_cast<int32_t>(id)};
  }
}

std::optional<int32_t> Bpe::id_of(std::string_view token) const {
  uint64_t hash = hash_bytes(token);
  size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask; slots_[at].id >= 0; at = (at + 1) & mask)
    if (slots_[at].hash == static_cast<uint32_t>(hash >> 32) && tokens_[static_cast<size_t>(slots_[at].id)] == token) return slots_[at].id;
  return std::nullopt;
}

std::optional<std::string_view> Bpe::token_of(int32_t id) const {
  if (id < 0 || id >= size() || tokens_[static_cast<size_t>(id)].data() == nullptr) return std::nullopt;
  return tokens_[static_cast<size_t>(id)];
}

// The character that is all of a text, if it is one below `limit`; `limit` otherwise.
static char32_t only_char(std::string_view text, char32_t limit) {
  if (text.empty() || text.size() > 2) return limit;
  size_t at = 0;
  char32_t c = next_char(text, at);
  return at == text.size() && c < limit ? c : limit;
}

// Row and column of a common character in near_, 511 for the others.
static uint32_t near_index(char32_t c) { return c < 0x180 ? c : c == 0x2581 ? 0x180 : 511; }

void Bpe::read_merges(const simdjson::dom::array& merges, const Place& place) {
  size_t count = merges.size();
  if (count >= 0xFFFFFF) count = static_cast<size_t>(std::distance(merges.begin(), merges.end()));  // size() saturates there
  merges_.resize(table_size(count));
  merge_shift_ = 64 - std::countr_zero(merges_.size());
  merge_filter_.assign((size_t{1} << kFilterBits) / 64, 0);
  crossings_.assign(1024, UINT64_MAX);
  near_.assign(512 * 512, false);
  uint32_t rank = 0;
  size_t crossings = 0;
  for (Json merge : merges) {
    std::string_view left, right;
    simdjson::dom::array pair;
    if (!merge.get_string().get(left)) {
      if (left.starts_with("#version")) continue;
      size_t space = left.find(' ');
      if (space == std::string_view::npos || left.find(' ', space + 1) != std::string_view::npos)
        fail(place, fmt::format("entry {} \"{}\" is not two tokens with one space between", rank, left.substr(0, 100)));
      right = left.substr(space + 1);
      left = left.substr(0, space);
    } else if (merge.get_array().get(pair) || pair.size() != 2 || pair.at(0).get_string().get(left) || pair.at(1).get_string().get(right)) {
      fail(place, fmt::format("entry {} is neither a string nor a pair of strings", rank));
    }
    add_merge(left, right, rank++, place);
    if (left.empty() || right.empty()) continue;
    size_t zero = 0;
    uint64_t crossing = static_cast<uint64_t>(last_char(left)) << 32 | next_char(right, zero);
    near_[near_index(last_char(left)) << 9 | near_index(static_cast<uint32_t>(crossing))] = true;
    if (2 * crossings > crossings_.size()) {
      std::vector<uint64_t> old(crossings_.size() * 4, UINT64_MAX);
      old.swap(crossings_);
      size_t mask = crossings_.size() - 1;
      for (uint64_t key : old) {
        if (key == UINT64_MAX) continue;
        size_t at = mix(key) & mask;
        while (crossings_[at] != UINT64_MAX) at = (at + 1) & mask;
        crossings_[at] = key;
      }
    }
    size_t mask = crossings_.size() - 1, at = mix(crossing) & mask;
    while (crossings_[at] != UINT64_MAX && crossings_[at] != crossing) at = (at + 1) & mask;
    if (crossings_[at] == UINT64_MAX) crossings_[at] = crossing, ++crossings;
  }
}

void Bpe::add_merge(std::string_view left, std::string_view right, uint32_t rank, const Place& place) {
  auto a = id_of(left), b = id_of(right);
  if (!a || !b) fail(place, fmt::format("entry {}: \"{}\" is not in the vocabulary", rank, (a ? right : left).substr(0, 100)));
  if (right.size() < prefix_.size()) fail(place, fmt::format("entry {}: \"{}\" lacks the prefix \"{}\"", rank, right, prefix_));
  std::string joined;
  joined.reserve(left.size() + right.size());
  joined.append(left).append(right.substr(prefix_.size()));
  // Most files number the merged tokens in the order of the merges.
  auto guess = static_cast<size_t>(last_joined_ + 1);
  auto id = guess < tokens_.size() && tokens_[guess] == joined && prefix_.empty() ? std::optional(last_joined_ + 1) : id_of(joined);
  if (!id) fail(place, fmt::format("entry {}: \"{}\" is not in the vocabulary", rank, joined.substr(0, 100)));
  uint64_t pair = static_cast<uint64_t>(static_cast<uint32_t>(*a)) << 32 | static_cast<uint32_t>(*b);
  size_t mask = merges_.size() - 1, at = merge_slot(pair), bit = filter_bit(pair);
  while (merges_[at].pair != UINT64_MAX && merges_[at].pair != pair) at = (at + 1) & mask;
  merge_filter_[bit / 64] |= uint64_t{1} << (bit % 64);
  last_joined_ = *id;
  char32_t first = only_char(left, kCharIds), second = only_char(right, kCharIds);
  if (first < kCharIds && second < kCharIds && char_ids_[first] == *a && char_ids_[second] == *b)
    first_merges_[first * kCharIds + second] = {rank, *id};
  merges_[at] = {pair, rank, *id};  // of a pair listed twice, the last counts
}

const Bpe::Merge* Bpe::merge_of(int32_t left, int32_t right) const {
  uint64_t pair = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  size_t bit = filter_bit(pair);
  if (!(merge_filter_[bit / 64] >> (bit % 64) & 1)) return nullptr;
  size_t mask = merges_.size() - 1;
  for (size_t at = merge_slot(pair); merges_[at].pair != UINT64_MAX; at = (at + 1) & mask)
    if (merges_[at].pair == pair) return &merges_[at];
  return nullptr;
}

bool Bpe::may_cross(char32_t left, char32_t right) const {
  uint32_t row = near_index(left), column = near_index(right);
  if (row != 511 && column != 511) return near_[row << 9 | column];
  uint64_t key = static_cast<uint64_t>(left) << 32 | right;
  size_t mask = crossings_.size() - 1;
  for (size_t at = mix(key) & mask; crossings_[at] != UINT64_MAX; at = (at + 1) & mask)
    if (crossings_[at] == key) return true;
  return false;
}

void Bpe::encode_word(std::string_view word, std::vector<int32_t>& ids) const {
  if (word.size() <= kCutAbove || !can_cut_) return encode_cached(word, ids);
  if (ignore_merges_ && word.size() <= longest_token_)
    if (auto id = id_of(word)) return ids.push_back(*id);
  // Cut between two characters that no merge joins. Both must be tokens themselves: unknown ones and bytes look at their neighbours.
  size_t begin = 0, at = 0;
  char32_t left = 0;
  bool left_known = false;
  while (at < word.size()) {
    size_t here = at;
    char32_t right = next_char(word, at);
    bool cut = here > 0 && !may_cross(left, right);
    if (cut || left_known) {
      bool right_known = false;
      if (cut) {
        if (!left_known) {
          size_t back = here;
          do --back;
          while ((static_cast<unsigned char>(word[back]) & 0xC0u) == 0x80);
          left_known = id_of(word.substr(back, here - back)).has_value();
        }
        right_known = right < kCharIds ? char_ids_[right] >= 0 : id_of(word.substr(here, at - here)).has_value();
      }
      if (cut && left_known && right_known) {
        encode_cached(word.substr(begin, here - begin), ids);
        begin = here;
      }
      left_known = right_known;
    }
    left = right;
  }
  encode_cached(word.substr(begin), ids);
}

namespace {

struct CacheEntry {  // 128 bytes
  uint8_t length = 0, count = 0;
  char word[62];
  int32_t ids[16];
};

// A word of up to 15 bytes: its bytes and, on top, its length.
struct ShortKey {
  uint64_t low = 0, high = 0;
  bool operator==(const ShortKey&) const = default;
};
struct ShortEntry {  // 32 bytes
  ShortKey key;
  int32_t ids[3];
  uint32_t count = 0;
};

struct WordCache {
  static constexpr size_t kEntries = 1 << 13, kShortEntries = 1 << 15;
  uint64_t serial = 0;
  std::vector<CacheEntry> entries;
  std::vector<ShortEntry> short_entries;
};

ShortKey short_key(std::string_view word) {  // 1 to 15 bytes
  auto load = [&](size_t at, size_t n) {
    uint64_t x = 0;
    std::memcpy(&x, word.data() + at, n);
    return x;
  };
  size_t n = word.size();
  ShortKey key;
  if (n >= 8) {
    uint64_t last = 0;
    std::memcpy(&last, word.data() + n - 8, 8);
    std::memcpy(&key.low, word.data(), 8);
    key.high = n == 8 ? 0 : last >> (8 * (16 - n));
  } else if (n >= 4) {
    uint32_t first = 0, last = 0;
    std::memcpy(&first, word.data(), 4), std::memcpy(&last, word.data() + n - 4, 4);
    key.low = first | uint64_t{last} << (8 * (n - 4));
  } else {
    key.low = load(0, 1) | (n > 1 ? load(n - 1, 1) << (8 * (n - 1)) : 0) | (n > 2 ? load(1, 1) << 8 : 0);
  }
  key.high |= uint64_t{n} << 56;
  return key;
}

struct Symbol {
  int32_t id, previous, next;
  bool alive;
};

struct Candidate {
  uint64_t order;  // rank << 32 | position: the lowest goes first
  int32_t id;
};
struct Later {
  bool operator()(const Candidate& a, const Candidate& b) const { return a.order > b.order; }
};

}  // namespace

void Bpe::encode_cached(std::string_view word, std::vector<int32_t>& ids) const {
  thread_local WordCache cache;
  if (cache.serial != serial_) {
    cache.entries.assign(WordCache::kEntries, {});
    cache.short_entries.assign(WordCache::kShortEntries, {});
    cache.serial = serial_;
  }
  if (word.empty() || word.size() > sizeof CacheEntry::word) return encode_uncached(word, ids);
  if (word.size() <= 15) {
    ShortKey key = short_key(word);
    uint64_t hash = (key.low * 0x9E3779B97F4A7C15ull ^ std::rotl(key.high, 23)) * 0xD6E8FEB86659FD93ull;
    ShortEntry& entry = cache.short_entries[hash >> (64 - 15)];
    if (!(entry.key == key)) {
      size_t before = ids.size();
      encode_uncached(word, ids);
      size_t count = ids.size() - before;
      if (count > std::size(entry.ids)) return;
      entry.key = key;
      entry.count = static_cast<uint32_t>(count);
      std::copy(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end(), entry.ids);
      return;
    }
    for (uint32_t k = 0; k < entry.count; ++k) ids.push_back(entry.ids[k]);
    return;
  }
  CacheEntry& entry = cache.entries[hash_bytes(word) % WordCache::kEntries];
  if (entry.length == word.size() && std::memcmp(entry.word, word.data(), word.size()) == 0) {
    ids.insert(ids.end(), entry.ids, entry.ids + entry.count);
    return;
  }
  size_t before = ids.size();
  encode_uncached(word, ids);
  size_t count = ids.size() - before;
  if (count > std::size(entry.ids)) return;
  entry.length = static_cast<uint8_t>(word.size());
  entry.count = static_cast<uint8_t>(count);
  std::memcpy(entry.word, word.data(), word.size());
  std::copy(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end(), entry.ids);
}

void Bpe::encode_uncached(std::string_view word, std::vector<int32_t>& ids) const {
  if (ignore_merges_ && word.size() <= longest_token_)
    if (auto id = id_of(word)) return ids.push_back(*id);
  if (!encode_short(word, ids)) encode_merging(word, ids);
}

// Words of up to 128 characters that are tokens: the lowest rank is found by looking at all, which beats a queue here. The order is
// encode_merging's: a pair that changed spells a longer text, so a stale candidate there never merges.
bool Bpe::encode_short(std::string_view word, std::vector<int32_t>& ids) const {
  constexpr size_t kMost = 128;
  if (!can_cut_ || word.empty() || word.size() > 4 * kMost) return false;
  int32_t symbols[kMost], joined[kMost];
  uint32_t ranks[kMost];  // of the pair that begins here
  size_t n = 0;
  char32_t left = kCharIds;
  auto consider = [&](size_t k) {
    const Merge* m = merge_of(symbols[k], symbols[k + 1]);
    ranks[k] = m ? m->rank : UINT32_MAX;
    joined[k] = m ? m->id : -1;
  };
  for (size_t at = 0; at < word.size(); ++n) {
    if (n == kMost) return false;
    size_t begin = at;
    char32_t c = next_char(word, at);
    if (c < kCharIds) symbols[n] = char_ids_[c];
    else symbols[n] = id_of(word.substr(begin, at - begin)).value_or(-1);
    if (symbols[n] < 0) return false;
    if (n > 0) {
      if (c < kCharIds && left < kCharIds) {
        const FirstMerge& first = first_merges_[left * kCharIds + c];
        ranks[n - 1] = first.rank;
        joined[n - 1] = first.id;
      } else {
        consider(n - 1);
      }
    }
    left = c;
  }
  // Symbols stay in their place, linked; each block of eight knows its lowest rank, so that a merge looks at few of them.
  uint8_t next[kMost], previous[kMost];
  uint32_t lowest[kMost / 8];
  for (size_t k = 0; k < n; ++k) next[k] = static_cast<uint8_t>(k + 1), previous[k] = static_cast<uint8_t>(k - 1);
  size_t blocks = (n + 7) / 8;
  for (size_t k = n - 1; k < blocks * 8; ++k) ranks[k] = UINT32_MAX;
  auto refresh = [&](size_t k) {
    const uint32_t* r = ranks + (k & ~size_t{7});
    uint32_t x = std::min(std::min(r[0], r[1]), std::min(r[2], r[3])), y = std::min(std::min(r[4], r[5]), std::min(r[6], r[7]));
    lowest[k / 8] = std::min(x, y);
  };
  for (size_t k = 0; k < blocks; ++k) refresh(k * 8);
  auto consider_linked = [&](size_t k) {
    const Merge* m = next[k] < n ? merge_of(symbols[k], symbols[next[k]]) : nullptr;
    ranks[k] = m ? m->rank : UINT32_MAX;
    joined[k] = m ? m->id : -1;
  };
  for (;;) {
    size_t block = 0;
    for (size_t k = 1; k < blocks; ++k)
      if (lowest[k] < lowest[block]) block = k;
    if (lowest[block] == UINT32_MAX) break;
    size_t best = block * 8;
    while (ranks[best] != lowest[block]) ++best;
    size_t gone = next[best];
    symbols[best] = joined[best];
    ranks[gone] = UINT32_MAX;
    next[best] = next[gone];
    if (next[gone] < n) previous[next[gone]] = static_cast<uint8_t>(best);
    consider_linked(best);
    if (best > 0) {
      consider_linked(previous[best]);
      refresh(previous[best]);
    }
    refresh(best);
    if (gone / 8 != best / 8) refresh(gone);
  }
  for (size_t k = 0; k < n; k = next[k]) ids.push_back(symbols[k]);
  return true;
}

// The library's order exactly: the lowest rank first, then the leftmost; a candidate whose pair changed meanwhile still merges
// when the new pair gives the same token.
void Bpe::encode_merging(std::string_view word, std::vector<int32_t>& ids) const {
  thread_local std::vector<Symbol> symbols;
  thread_local std::vector<Candidate> queue;
  if (word.size() >= INT32_MAX) throw Error(ErrorKind::bad_data, fmt::format("a text of {} bytes is too long to tokenize", word.size()));
  symbols.clear();
  queue.clear();
  auto add = [&](int32_t id) {
    auto n = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, n - 1, n + 1, true});
  };
  bool unknown_waits = false;
  std::string spelled;
  for (size_t at = 0; at < word.size();) {
    size_t begin = at;
    char32_t c = next_char(word, at);
    if (can_cut_ && c < kCharIds && char_ids_[c] >= 0 && !unknown_waits) {
      add(char_ids_[c]);
      continue;
    }
    std::string_view piece = word.substr(begin, at - begin);
    if ((begin > 0 && !prefix_.empty()) || (at == word.size() && !suffix_.empty())) {
      spelled = (begin > 0 ? prefix_ : "") + std::string(piece) + (at == word.size() ? suffix_ : "");
      piece = spelled;
    }
    if (auto id = id_of(piece)) {
      if (unknown_waits) add(unknown_);
      unknown_waits = false;
      add(*id);
      continue;
    }
    auto byte_id = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
    if (byte_fallback_ && std::all_of(piece.begin(), piece.end(), [&](char c) { return byte_id(c) >= 0; })) {
      for (char c : piece) add(byte_id(c));
      continue;
    }
    if (!has_unknown_) continue;  // characters that nothing stands for vanish
    if (unknown_ < 0) throw Error(ErrorKind::bad_data, "the tokenizer's unk_token is not in its vocabulary, and the text needs it");
    if (unknown_waits && !fuse_unknown_) add(unknown_);
    unknown_waits = true;
  }
  if (unknown_waits) add(unknown_);
  if (symbols.empty()) return;
  symbols.back().next = -1;

  auto consider = [&](int32_t at) {
    const Symbol& s = symbols[static_cast<size_t>(at)];
    const Merge* m = merge_of(s.id, symbols[static_cast<size_t>(s.next)].id);
    if (!m) return false;
    queue.push_back({static_cast<uint64_t>(m->rank) << 32 | static_cast<uint32_t>(at), m->id});
    return true;
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<int32_t>(i));
  std::make_heap(queue.begin(), queue.end(), Later{});
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), Later{});
    Candidate top = queue.back();
    queue.pop_back();
    auto at = static_cast<int32_t>(static_cast<uint32_t>(top.order));
    Symbol& left = symbols[static_cast<size_t>(at)];
    if (!left.alive || left.next < 0) continue;
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    const Merge* m = merge_of(left.id, right.id);
    if (!m || m->id != top.id) continue;
    left.id = top.id;
    right.alive = false;
    left.next = right.next;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = at;
    if (left.previous >= 0 && consider(left.previous)) std::push_heap(queue.begin(), queue.end(), Later{});
    if (left.next >= 0 && consider(at)) std::push_heap(queue.begin(), queue.end(), Later{});
  }
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) ids.push_back(symbols[static_cast<size_t>(i)].id);
}

}  // namespace loraine::tokens
