// See unigram.h.
#include "loraine/text/tokenizer/unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens {

static constexpr double kUnknownPenalty = 10;  // below the lowest score, as in SentencePiece

Unigram::Unigram(const Json& model, const Place& place) {
  JsonObject object = as_object(model, place);
  check_keys(object, {"type", "unk_id", "vocab", "byte_fallback"}, place);
  for (Json entry : get_array(object, "vocab", place)) {
    simdjson::dom::array pair;
    std::string_view token;
    double score = 0;
    if (entry.get_array().get(pair) || pair.size() != 2 || pair.at(0).get_string().get(token) || pair.at(1).get_double().get(score) ||
        !std::isfinite(score))
      fail(place.in("vocab"), fmt::format("entry {} is not a token and its score", tokens_.size()));
    if (tokens_.size() >= INT32_MAX) fail(place.in("vocab"), "has more tokens than ids");
    tokens_.emplace_back(token);
    scores_.push_back(score);
  }
  if (tokens_.empty()) fail(place.in("vocab"), "is empty");
  if (has(object, "unk_id")) unknown_ = static_cast<int32_t>(get_int(object, "unk_id", 0, size() - 1, place));
  byte_fallback_ = get_bool_or(object, "byte_fallback", false, place);
  unknown_score_ = *std::min_element(scores_.begin(), scores_.end()) - kUnknownPenalty;
  for (int32_t id = 0; id < size(); ++id) ids_[tokens_[static_cast<size_t>(id)]] = id;  // of a token that stands twice the last counts
  for (size_t b = 0; b < 256; ++b) byte_ids_[b] = id_of(fmt::format("<0x{:02X}>", b)).value_or(-1);
  build_trie();
}

void Unigram::build_trie() {
  std::vector<int32_t> order;
  for (int32_t id = 0; id < size(); ++id)
    if (const std::string& token = tokens_[static_cast<size_t>(id)]; !token.empty() && ids_.at(token) == id) order.push_back(id);
  auto text = [&](size_t at) { return std::string_view(tokens_[static_cast<size_t>(order[at])]); };
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return tokens_[static_cast<size_t>(a)] < tokens_[static_cast<size_t>(b)]; });
  struct Range {  // of order: the tokens that begin as the node's path does
    uint32_t node;
    size_t begin, end, depth;
  };
  nodes_.emplace_back();
  std::vector<Range> waiting = {{0, 0, order.size(), 0}};
  for (size_t next = 0; next < waiting.size(); ++next) {  // breadth first, so that the children of a node are neighbours
    auto [node, begin, end, depth] = waiting[next];
    if (begin < end && text(begin).size() == depth) nodes_[node].id = order[begin++];
    nodes_[node].first_child = static_cast<uint32_t>(nodes_.size());
    while (begin < end) {
      const auto byte = static_cast<unsigned char>(text(begin)[depth]);
      size_t stop = begin;
      while (stop < end && static_cast<unsigned char>(text(stop)[depth]) == byte) ++stop;
      waiting.push_back({static_cast<uint32_t>(nodes_.size()), begin, stop, depth + 1});
      if (node == 0) root_[byte] = static_cast<uint32_t>(nodes_.size());
      ++nodes_[node].children;
      nodes_.push_back({.byte = byte});
      begin = stop;
    }
  }
}

uint32_t Unigram::child(uint32_t node, unsigned char byte) const {
  auto begin = nodes_.begin() + nodes_[node].first_child, end = begin + nodes_[node].children;
  auto found = std::lower_bound(begin, end, byte, [](const Node& n, unsigned char b) { return n.byte < b; });
  return found != end && found->byte == byte ? static_cast<uint32_t>(found - nodes_.begin()) : 0;
}

std::optional<int32_t> Unigram::id_of(std::string_view token) const {
  auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::string_view> Unigram::token_of(int32_t id) const {
  if (id < 0 || id >= size()) return std::nullopt;
  return tokens_[static_cast<size_t>(id)];
}

// Of two ways with the same score the one found first stays: the longer last token.
void Unigram::best_ways(std::string_view word, std::vector<Best>& ways) const {
  ways.assign(word.size() + 1, {});
  auto offer = [&](size_t to, size_t from, double score, int32_t id) {
    if (ways[to].from == SIZE_MAX || score > ways[to].score) ways[to] = {score, from, id};
  };
  for (size_t from = 0; from < word.size();) {
    const size_t width = char_bytes(static_cast<unsigned char>(word[from]));
    bool single = false;  // the character here is a token
    uint32_t node = root_[static_cast<unsigned char>(word[from])];
    for (size_t to = from + 1; node != 0; node = to < word.size() ? child(node, static_cast<unsigned char>(word[to])) : 0, ++to) {
      const int32_t id = nodes_[node].id;
      if (id < 0) continue;
      offer(to, from, scores_[static_cast<size_t>(id)] + ways[from].score, id);
      single |= to - from == width;
    }
    if (!single) {
      if (unknown_ < 0)
        throw Error(ErrorKind::bad_data,
                    fmt::format("the tokenizer has no token for \"{}\" and no unknown token", word.substr(from, width)));
      offer(from + width, from, unknown_score_ + ways[from].score, unknown_);
    }
    from += width;
  }
}

void Unigram::append_piece(std::string_view piece, std::vector<int32_t>& ids) const {
  auto byte_id = [&](char b) { return byte_ids_[static_cast<unsigned char>(b)]; };
  if (auto id = id_of(piece)) return ids.push_back(*id);
  if (byte_fallback_ && std::all_of(piece.begin(), piece.end(), [&](char b) { return byte_id(b) >= 0; })) {
    for (char b : piece) ids.push_back(byte_id(b));
    return;
  }
  ids.push_back(unknown_);
}

void Unigram::encode_word(std::string_view word, std::vector<int32_t>& ids) const {
  thread_local std::vector<Best> ways;
  thread_local std::vector<std::pair<size_t, size_t>> pieces;
  best_ways(word, ways);
  pieces.clear();
  bool unknown = false;  // the last piece is a run of unknown characters, which is one token
  for (size_t end = word.size(); end > 0;) {
    const Best& way = ways[end];
    const bool is_unknown = way.id == unknown_ && unknown_ >= 0;
    if (is_unknown && unknown) pieces.back().first = way.from;
    else pieces.emplace_back(way.from, end);
    unknown = is_unknown;
    end = way.from;
  }
  for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece)
    append_piece(word.substr(piece->first, piece->second - piece->first), ids);
}

}  // namespace loraine::tokens
