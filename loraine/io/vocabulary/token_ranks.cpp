// See token_ranks.h.
#include "loraine/io/vocabulary/token_ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <set>
#include <unordered_map>

#include "loraine/core/base64.h"
#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

constexpr int64_t kMostTokens = 1 << 24;
constexpr size_t kLongestToken = 1024;

[[noreturn]] void refuse(const std::string& file, const std::string& what) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: {}", file, what), "Is this the model's own file, completely downloaded?");
}

std::optional<std::pair<std::string, int64_t>> read_line(std::string_view line) {
  const size_t space = line.find(' ');
  if (space == 0 || space == std::string_view::npos) return std::nullopt;
  auto bytes = from_base64(line.substr(0, space));
  int64_t rank = -1;
  const auto [end, error] = std::from_chars(line.data() + space + 1, line.data() + line.size(), rank);
  if (!bytes || bytes->empty() || bytes->size() > kLongestToken || error != std::errc() || end != line.data() + line.size() || rank < 0 ||
      rank >= kMostTokens)
    return std::nullopt;
  return std::pair(std::move(*bytes), rank);
}

std::string_view next_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  while (line.ends_with('\r') || line.ends_with(' ')) line.remove_suffix(1);
  return line;
}

// GPT-2's printable stand-in for each byte, as UTF-8: itself where it can be seen, else a character from U+0100 on.
std::array<std::string, 256> byte_spellings() {
  std::array<std::string, 256> out;
  unsigned next = 0x100;
  for (unsigned b = 0; b < 256; ++b) {
    const bool visible = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    const unsigned c = visible ? b : next++;
    if (c < 0x80) out[b] = {static_cast<char>(c)};
    else out[b] = {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  }
  return out;
}

std::string spelled(std::string_view bytes) {
  static const std::array<std::string, 256> spellings = byte_spellings();
  std::string out;
  for (char b : bytes) out += spellings[static_cast<unsigned char>(b)];
  return out;
}

void check_unique(const TokenRanks& ranks, const std::string& file) {
  std::set<std::string_view> seen;
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0 && ranks[i].second == ranks[i - 1].second) refuse(file, fmt::format("rank {} stands twice", ranks[i].second));
    if (!seen.insert(ranks[i].first).second) refuse(file, fmt::format("the token of rank {} stands twice", ranks[i].second));
  }
}

int64_t whole_number(const Json& object, const char* key, int64_t low, int64_t high, const std::string& file) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer() || *found < low || *found > high)
    refuse(file, fmt::format("\"{}\" is {}, expected {} to {}", key, found == object.end() ? "missing" : found->dump().substr(0, 100), low,
                             high));
  return found->get<int64_t>();
}

std::string text_of(const Json& object, const char* key, const std::string& file) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string() || found->get_ref<const std::string&>().empty())
    refuse(file, fmt::format("an entry has no \"{}\"", key));
  return found->get<std::string>();
}

// Those that files before version 8 leave out.
constexpr const char* kOldSpecialTokens[] = {"<unk>",
                                             "<s>",
                                             "</s>",
                                             "[INST]",
                                             "[/INST]",
                                             "[AVAILABLE_TOOLS]",
                                             "[/AVAILABLE_TOOLS]",
                                             "[TOOL_RESULTS]",
                                             "[/TOOL_RESULTS]",
                                             "[TOOL_CALLS]",
                                             "[IMG]",
                                             "<pad>",
                                             "[IMG_BREAK]",
                                             "[IMG_END]",
                                             "[PREFIX]",
                                             "[MIDDLE]",
                                             "[SUFFIX]",
                                             "[SYSTEM_PROMPT]",
                                             "[/SYSTEM_PROMPT]",
                                             "[TOOL_CONTENT]"};

std::vector<std::string> special_tokens(const Json& content, const std::string& file) {
  std::vector<std::string> out;
  const auto list = content.find("special_tokens");
  if (list == content.end() || list->is_null()) {
    out.assign(std::begin(kOldSpecialTokens), std::end(kOldSpecialTokens));
  } else {
    if (!list->is_array()) refuse(file, "special_tokens is not a list");
    out.resize(list->size());
    for (const Json& token : *list) {
      if (!token.is_object()) refuse(file, "an entry of special_tokens is not an object");
      std::string& place = out[static_cast<size_t>(whole_number(token, "rank", 0, static_cast<int64_t>(out.size()) - 1, file))];
      if (!place.empty()) refuse(file, "two special tokens have the same rank");
      place = text_of(token, "token_str", file);
    }
  }
  const int64_t wanted = content["config"].contains("default_num_special_tokens")
                             ? whole_number(content["config"], "default_num_special_tokens", 0, 1'000'000, file)
                             : static_cast<int64_t>(out.size());
  if (static_cast<int64_t>(out.size()) > wanted)
    refuse(file, fmt::format("has {} special tokens, and default_num_special_tokens is {}", out.size(), wanted));
  while (static_cast<int64_t>(out.size()) < wanted) out.push_back(fmt::format("<SPECIAL_{}>", out.size()));
  if (std::set<std::string>(out.begin(), out.end()).size() != out.size()) refuse(file, "a special token stands twice");
  return out;
}

}  // namespace

bool is_tiktoken(std::string_view bytes) { return read_line(next_line(bytes)).has_value(); }

TokenRanks read_tiktoken(std::string_view bytes, const std::string& file) {
  TokenRanks ranks;
  for (int number = 1; !bytes.empty(); ++number) {
    const std::string_view line = next_line(bytes);
    if (line.empty()) continue;
    auto entry = read_line(line);
    if (!entry) refuse(file, fmt::format("line {} {} is not base64, a space and a rank", number, in_quotes(line)));
    ranks.push_back(std::move(*entry));
  }
  std::stable_sort(ranks.begin(), ranks.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  check_unique(ranks, file);
  return ranks;
}

Tekken read_tekken(const Json& content, const std::string& file) {
  if (!content.is_object() || !content.contains("config") || !content["config"].is_object() || !content.contains("vocab") ||
      !content["vocab"].is_array())
    refuse(file, "has no object \"config\" and list \"vocab\"");
  Tekken tekken;
  tekken.pattern = text_of(content["config"], "pattern", file);
  tekken.special = special_tokens(content, file);
  const Json& vocabulary = content["vocab"];
  auto count = static_cast<int64_t>(vocabulary.size());
  if (content["config"].contains("default_vocab_size")) {  // a file may hold more tokens than the model has
    const auto special = static_cast<int64_t>(tekken.special.size());
    count = whole_number(content["config"], "default_vocab_size", special, special + count, file) - special;
  }
  for (int64_t i = 0; i < count; ++i) {
    const Json& entry = vocabulary[static_cast<size_t>(i)];
    if (!entry.is_object() || whole_number(entry, "rank", 0, kMostTokens, file) != i)
      refuse(file, fmt::format("entry {} of vocab is not that of rank {}", i, i));
    auto bytes = from_base64(text_of(entry, "token_bytes", file));
    if (!bytes || bytes->empty() || bytes->size() > kLongestToken) refuse(file, fmt::format("token_bytes of rank {} is not base64", i));
    tekken.ranks.emplace_back(std::move(*bytes), i);
  }
  check_unique(tekken.ranks, file);
  return tekken;
}

TokenizerParts token_rank_parts(const TokenRanks& ranks, int64_t first_id, const char* words, const std::string& file) {
  std::unordered_map<std::string_view, int64_t> rank_of;
  for (const auto& [token, rank] : ranks) rank_of.emplace(token, rank);
  for (unsigned b = 0; b < 256; ++b)
    if (const char byte = static_cast<char>(b); !rank_of.contains({&byte, 1}))
      refuse(file, fmt::format("has no token for the byte 0x{:02X}", b));
  TokenizerParts parts;
  for (const auto& [token, rank] : ranks) {
    parts.ids.emplace_back(spelled(token), first_id + rank);
    std::vector<std::pair<std::pair<int64_t, int64_t>, size_t>> cuts;
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const std::string_view whole = token;
      const auto left = rank_of.find(whole.substr(0, cut)), right = rank_of.find(whole.substr(cut));
      if (left != rank_of.end() && right != rank_of.end()) cuts.push_back({{left->second, right->second}, cut});
    }
    std::sort(cuts.begin(), cuts.end());
    for (const auto& [parts_of, cut] : cuts) parts.merges.emplace_back(spelled(token.substr(0, cut)), spelled(token.substr(cut)));
  }
  parts.model = {{"type", "BPE"},
                 {"dropout", nullptr},
                 {"unk_token", nullptr},
                 {"continuing_subword_prefix", nullptr},
                 {"end_of_word_suffix", nullptr},
                 {"fuse_unk", false},
                 {"byte_fallback", false},
                 {"ignore_merges", true}};
  parts.pre_tokenizer = json_sequence("pretokenizers", Json::array({json_split(words, "Isolated"), json_byte_level(false)}));
  parts.decoder = json_byte_level(true);
  return parts;
}

}  // namespace loraine
