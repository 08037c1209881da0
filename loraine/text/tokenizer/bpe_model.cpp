// Reading the "model" of tokenizer.json into a Bpe. See bpe.h.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "loraine/text/tokenizer/bpe.h"
#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens {

Bpe::Bpe(const Json& model, const Place& place, bool over_bytes) {
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
  vocabulary_.read(as_object(get(object, "vocab", place), place.in("vocab")), place.in("vocab"));
  has_unknown_ = has(object, "unk_token");
  if (has_unknown_) unknown_ = id_of(get_string(object, "unk_token", place)).value_or(-1);
  for (size_t b = 0; b < 256; ++b) byte_fallback_ids_[b] = id_of(fmt::format("<0x{:02X}>", b)).value_or(-1);
  can_cut_ = prefix_.empty() && suffix_.empty();
  bytes_ = over_bytes && can_cut_;
  for (unsigned b = 0; b < 256; ++b) bytes_ &= id_of(byte_to_printable(static_cast<unsigned char>(b))).has_value();
  crossings_ = Crossings(bytes_);
  read_merges(get_array(object, "merges", place), place.in("merges"));
  fill_character_tables();
  all_known_ = bytes_ || bytes_stand_for_the_rest();
  static std::atomic<uint64_t> next_serial{1};
  serial_ = next_serial++;
}

struct Bpe::Pending {  // a merge whose tokens are looked up together with others', so that memory is fetched for many at once
  std::string_view left, right;
  uint64_t left_hash, right_hash;
  uint32_t rank;
  int32_t left_id = -1, right_id = -1;
};

// "left right" or ["left", "right"]; false: a comment.
static bool read_merge(const Json& merge, uint32_t rank, const Place& place, std::string_view& left, std::string_view& right) {
  simdjson::dom::array pair;
  if (!merge.get_string().get(left)) {
    if (left.starts_with("#version")) return false;
    size_t space = left.find(' ');
    if (space == std::string_view::npos || left.find(' ', space + 1) != std::string_view::npos)
      fail(place, fmt::format("entry {} \"{}\" is not two tokens with one space between", rank, left.substr(0, 100)));
    right = left.substr(space + 1);
    left = left.substr(0, space);
  } else if (merge.get_array().get(pair) || pair.size() != 2 || pair.at(0).get_string().get(left) || pair.at(1).get_string().get(right)) {
    fail(place, fmt::format("entry {} is neither a string nor a pair of strings", rank));
  }
  return true;
}

void Bpe::read_merges(const simdjson::dom::array& merges, const Place& place) {
  size_t count = merges.size();
  if (count >= 0xFFFFFF) count = static_cast<size_t>(std::distance(merges.begin(), merges.end()));  // size() saturates there
  if (!merges_.reserve(count, static_cast<size_t>(size()))) fail(place, fmt::format("{} merges of {} tokens are too many", count, size()));
  uint32_t rank = 0;
  int32_t last_joined = -1;
  std::vector<Pending> pending;
  auto add_pending = [&] {
    for (const Pending& merge : pending) vocabulary_.prefetch_token(merge.left_hash), vocabulary_.prefetch_token(merge.right_hash);
    for (const Pending& merge : pending) vocabulary_.prefetch_text(merge.left_hash), vocabulary_.prefetch_text(merge.right_hash);
    for (Pending& merge : pending) {
      merge.left_id = vocabulary_.find(merge.left, merge.left_hash).value_or(-1);
      merge.right_id = vocabulary_.find(merge.right, merge.right_hash).value_or(-1);
      if (merge.left_id >= 0 && merge.right_id >= 0) merges_.prefetch(merge.left_id, merge.right_id);
    }
    for (const Pending& merge : pending) last_joined = add_merge(merge, last_joined, place);
    pending.clear();
  };
  for (Json merge : merges) {
    std::string_view left, right;
    if (!read_merge(merge, rank, place, left, right)) continue;
    pending.push_back({left, right, hash_bytes(left), hash_bytes(right), rank++});
    vocabulary_.prefetch(pending.back().left_hash);
    vocabulary_.prefetch(pending.back().right_hash);
    if (pending.size() == 32) add_pending();
  }
  add_pending();
}

// The raw bytes of up to `most` stand-ins at the end or the begin of a token; empty where the token holds something else.
static std::string_view bytes_at_edge(std::string_view token, bool at_end, std::array<char, 4>& block) {
  if (at_end) {
    size_t begin = token.size();
    for (size_t n = 0; n < block.size() && begin > 0; ++n) do
        --begin;
      while (begin > 0 && (static_cast<unsigned char>(token[begin]) & 0xC0u) == 0x80);
    token.remove_prefix(begin);
  }
  size_t n = 0;
  for (size_t at = 0; at < token.size() && n < block.size(); ++n) {
    int byte = printable_to_byte(next_char(token, at));
    if (byte < 0) return {};
    block[n] = static_cast<char>(byte);
  }
  return {block.data(), n};
}

int32_t Bpe::add_merge(const Pending& merge, int32_t last_joined, const Place& place) {
  auto [left, right, left_hash, right_hash, rank, a, b] = merge;
  if (a < 0 || b < 0) fail(place, fmt::format("entry {}: \"{}\" is not in the vocabulary", rank, (a < 0 ? left : right).substr(0, 100)));
  if (right.size() < prefix_.size()) fail(place, fmt::format("entry {}: \"{}\" lacks the prefix \"{}\"", rank, right, prefix_));
  // Most files number the merged tokens in the order of the merges; some list several merges of one token in a row.
  auto guess = [&](int32_t id) { return prefix_.empty() && vocabulary_.is(id, merge.left, merge.right); };
  int32_t id = guess(last_joined + 1) ? last_joined + 1 : guess(last_joined) ? last_joined : -1;
  std::string joined;
  if (id < 0) {
    joined.append(left).append(right.substr(prefix_.size()));
    id = vocabulary_.id_of(joined).value_or(-1);
  }
  if (id < 0) fail(place, fmt::format("entry {}: \"{}\" is not in the vocabulary", rank, joined.substr(0, 100)));
  merges_.add(a, b, id);
  std::array<char, 4> left_block{}, right_block{};
  if (bytes_) crossings_.add(bytes_at_edge(left, true, left_block), bytes_at_edge(right, false, right_block));
  else if (can_cut_) crossings_.add(left, right);
  return id;
}

bool Bpe::bytes_stand_for_the_rest() const {
  if (!byte_fallback_ || std::any_of(byte_fallback_ids_.begin(), byte_fallback_ids_.end(), [](int32_t id) { return id < 0; })) return false;
  std::vector<bool> fallback(static_cast<size_t>(size()));
  for (int32_t id : byte_fallback_ids_) fallback[static_cast<size_t>(id)] = true;
  bool merged = false;
  merges_.each_pair(
      [&](int32_t left, int32_t right) { merged |= fallback[static_cast<size_t>(left)] || fallback[static_cast<size_t>(right)]; });
  return !merged;
}

void Bpe::fill_character_tables() {
  first_ids_.assign(kBmp, -1);
  if (bytes_) {
    for (unsigned b = 0; b < 256; ++b) first_ids_[b] = *id_of(byte_to_printable(static_cast<unsigned char>(b)));
  } else {
    for (int32_t id = 0; id < size(); ++id) {
      auto token = token_of(id);
      if (!token || token->empty() || char_bytes(static_cast<unsigned char>(token->front())) != token->size()) continue;
      size_t at = 0;
      if (char32_t c = next_char(*token, at); c < kBmp) first_ids_[c] = *id_of(*token);
    }
  }
  first_ranks_.assign(size_t{kFirst} * kFirst, MergeTable::kNone);
  for (char32_t a = 0; a < kFirst; ++a)
    for (char32_t b = 0; b < kFirst && first_ids_[a] >= 0; ++b)
      if (first_ids_[b] >= 0) first_ranks_[a * kFirst + b] = merges_.rank_of(first_ids_[a], first_ids_[b]);
}

}  // namespace loraine::tokens
