// See tokenizer.h. The order of work is the library's: added tokens, normalizer, added tokens of normalized text, words, the model,
// template.
#include "loraine/text/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "loraine/text/tokenizer/added_tokens.h"
#include "loraine/text/tokenizer/bpe.h"
#include "loraine/text/tokenizer/normalizer.h"
#include "loraine/text/tokenizer/pre_tokenizer.h"
#include "loraine/text/tokenizer/token_decoder.h"
#include "loraine/text/tokenizer/unigram.h"

namespace loraine {

namespace {

using namespace tokens;

struct SpecialTokensAround {  // the post_processor: ids before and after the sequence
  std::vector<int32_t> before, after;
};

class FileTokenizer final : public Tokenizer {
 public:
  FileTokenizer(const JsonObject& root, const Place& place);

  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens, bool split_special_tokens) const override;
  std::string guard(std::string_view part) const override;
  std::vector<int32_t> encode_guarded(std::string_view text) const override;
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const override;
  std::optional<int32_t> token_to_id(std::string_view token) const override;
  std::optional<std::string> id_to_token(int32_t id) const override;
  std::string token_bytes(int32_t id) const override;
  bool drops_first_space() const override { return tokens::drops_first_space(decoder_); }
  int64_t vocab_size() const override { return size_; }
  bool is_special(int32_t id) const override;
  int32_t add_token(const std::string& content, bool special) override;

 private:
  void insert(AddedToken token);
  void read_added_tokens(const JsonObject& root, const Place& place);
  void encode_into(std::vector<int32_t>& ids, std::string_view text, bool split_special_tokens, bool guarded) const;
  void encode_text(std::string text, bool at_start, std::vector<int32_t>& ids) const;

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<const WordModel> model_;
  TokenDecoder decoder_;
  SpecialTokensAround around_;
  std::vector<AddedToken> added_;
  std::unordered_map<std::string, size_t> added_by_content_;
  std::unordered_map<int32_t, size_t> added_by_id_;
  TokenTrie raw_, normalized_;  // matched in the text as it is, and in the normalized text
  int64_t size_ = 0;
};

int64_t find_id(const JsonObject& special, const std::string& name, const Place& place, std::vector<int32_t>& out) {
  JsonObject entry = as_object(get(special, name, place.in("special_tokens")), place.in("special_tokens." + name));
  check_keys(entry, {"id", "ids", "tokens"}, place.in("special_tokens." + name));
  for (Json value : get_array(entry, "ids", place)) {
    int64_t id = -1;
    if (value.get_int64().get(id) || id < 0 || id > INT32_MAX)
      fail(place, fmt::format("special token \"{}\" has an id that is no id", name));
    out.push_back(static_cast<int32_t>(id));
  }
  return static_cast<int64_t>(out.size());
}

void parse_template(const JsonObject& object, const Place& place, SpecialTokensAround& out) {
  check_keys(object, {"type", "single", "pair", "special_tokens"}, place);
  JsonObject special = as_object(get(object, "special_tokens", place), place.in("special_tokens"));
  std::vector<int32_t> before, after;
  bool seen = false;
  for (Json item : get_array(object, "single", place)) {
    JsonObject part = as_object(item, place.in("single"));
    check_keys(part, {"SpecialToken", "Sequence"}, place.in("single"));
    if (has(part, "Sequence")) {
      if (seen) fail(place.in("single"), "has the sequence twice");
      seen = true;
      continue;
    }
    JsonObject token = as_object(get(part, "SpecialToken", place.in("single")), place.in("single.SpecialToken"));
    find_id(special, get_string(token, "id", place.in("single.SpecialToken")), place, seen ? after : before);
  }
  if (!seen) fail(place.in("single"), "has no sequence");
  out.before.insert(out.before.begin(), before.begin(), before.end());
  out.after.insert(out.after.end(), after.begin(), after.end());
}

void parse_post_processor(const Json& value, const Place& place, SpecialTokensAround& out) {
  if (value.is_null()) return;
  JsonObject object = as_object(value, place);
  std::string type = get_string(object, "type", place);
  if (type == "Sequence") {
    check_keys(object, {"type", "processors"}, place);
    for (Json step : get_array(object, "processors", place)) parse_post_processor(step, place.in("processors"), out);
  } else if (type == "TemplateProcessing") {
    parse_template(object, place, out);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    check_keys(object, {"type", "sep", "cls", "trim_offsets", "add_prefix_space"}, place);
    auto id_in = [&](const char* key) {
      simdjson::dom::array pair = get_array(object, key, place);
      int64_t id = -1;
      if (pair.size() != 2 || pair.at(1).get_int64().get(id) || id < 0 || id > INT32_MAX)
        fail(place, fmt::format("\"{}\" is not a token and its id", key));
      return static_cast<int32_t>(id);
    };
    out.before.insert(out.before.begin(), id_in("cls"));
    out.after.push_back(id_in("sep"));
  } else if (type == "ByteLevel") {  // changes offsets only
    check_keys(object, {"type", "add_prefix_space", "trim_offsets", "use_regex"}, place);
  } else {
    fail_unknown(place, "post_processor", type);
  }
}

std::unique_ptr<const WordModel> read_model(const Json& model, const Place& place, bool over_bytes) {
  if (get_string_or(as_object(model, place), "type", "BPE", place) == "Unigram") return std::make_unique<Unigram>(model, place);
  return std::make_unique<Bpe>(model, place, over_bytes);
}

Json part_or_null(const JsonObject& root, std::string_view key) {
  static simdjson::dom::parser parser;
  static const Json null = parser.parse(std::string_view("null"));
  Json value;
  return root.at_key(key).get(value) ? null : value;
}

FileTokenizer::FileTokenizer(const JsonObject& root, const Place& place)
    : normalizer_(parse_normalizer(part_or_null(root, "normalizer"), place.in("normalizer"))),
      pre_tokenizer_(parse_pre_tokenizer(part_or_null(root, "pre_tokenizer"), place.in("pre_tokenizer"))),
      model_(read_model(get(root, "model", place), place.in("model"), ends_with_byte_level(pre_tokenizer_))),
      decoder_(parse_decoder(part_or_null(root, "decoder"), place.in("decoder"))) {
  check_keys(root,
             {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"},
             place);
  if (model_->takes_bytes()) leave_bytes(pre_tokenizer_);
  parse_post_processor(part_or_null(root, "post_processor"), place.in("post_processor"), around_);
  size_ = model_->size();
  if (has(root, "added_tokens")) read_added_tokens(root, place.in("added_tokens"));
  for (const auto* ids : {&around_.before, &around_.after})
    for (int32_t id : *ids)
      if (id >= size_) fail(place.in("post_processor"), fmt::format("id {} is not below the vocabulary's {}", id, size_));
}

void FileTokenizer::read_added_tokens(const JsonObject& root, const Place& place) {
  auto list = get_array(root, "added_tokens", place);
  int64_t limit = size_ * 2 + 1'000'000;
  for (Json item : list) {
    JsonObject object = as_object(item, place);
    check_keys(object, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}, place);
    AddedToken token;
    token.content = get_string(object, "content", place);
    token.id = static_cast<int32_t>(get_int(object, "id", 0, limit, place));
    token.special = get_bool_or(object, "special", false, place);
    token.normalized = get_bool_or(object, "normalized", !token.special, place);
    token.single_word = get_bool_or(object, "single_word", false, place);
    token.lstrip = get_bool_or(object, "lstrip", false, place);
    token.rstrip = get_bool_or(object, "rstrip", false, place);
    if (token.content.empty()) continue;  // as the library: it matches nothing
    if (added_by_content_.contains(token.content)) fail(place, fmt::format("\"{}\" is listed twice", token.content));
    if (auto id = model_->id_of(token.content)) {
      token.id = *id;  // the library keeps the vocabulary's id too
    } else if (auto other = id_to_token(token.id)) {
      fail(place, fmt::format("\"{}\" has id {}, which is already \"{}\"", token.content, token.id, *other));
    }
    insert(std::move(token));
  }
}

void FileTokenizer::insert(AddedToken token) {
  size_t index = added_.size();
  if (token.normalized) normalized_.insert(normalize(normalizer_, token.content), index);
  else raw_.insert(token.content, index);
  added_by_content_[token.content] = index;
  added_by_id_[token.id] = index;
  size_ = std::max<int64_t>(size_, int64_t{token.id} + 1);
  added_.push_back(std::move(token));
}

int32_t FileTokenizer::add_token(const std::string& content, bool special) {
  if (content.empty() || !valid_utf8(content))
    throw Error(ErrorKind::usage, fmt::format("a token to add must be UTF-8 text and not empty, found {} bytes", content.size()));
  if (auto known = added_by_content_.find(content); known != added_by_content_.end()) {
    AddedToken& token = added_[known->second];
    if (special && !token.special) new_tokens_.push_back({content, token.id, true});
    token.special |= special;
    return token.id;
  }
  int32_t id = model_->id_of(content).value_or(static_cast<int32_t>(size_));
  new_tokens_.push_back({content, id, special});
  insert({.content = content, .id = id, .special = special, .normalized = !special});
  return id;
}

constexpr std::string_view kGuard = "\xEF\xB7\x90";  // U+FDD0

std::string without_guards(std::string_view text) {
  std::string out;
  for (size_t from = 0; from < text.size();) {
    const size_t at = std::min(text.find(kGuard, from), text.size());
    out += text.substr(from, at - from);
    from = at + kGuard.size();
  }
  return out;
}

std::string FileTokenizer::guard(std::string_view part) const {
  std::string plain = without_guards(part), out;
  if (!valid_utf8(plain)) plain = repair_utf8(plain);
  for (size_t at = 0; at < plain.size();) {
    const size_t begin = at;
    bool special = false;
    for (const TokenTrie* trie : {&raw_, &normalized_}) {
      size_t index = 0;
      if (!trie->empty() && trie->longest(plain, begin, index) > 0) special = special || added_[index].special;
    }
    next_char(plain, at);
    out += plain.substr(begin, at - begin);
    if (special) out += kGuard;  // behind its first character; of a token of one character nothing is left to break
  }
  return out;
}

std::vector<int32_t> FileTokenizer::encode(std::string_view text, bool add_special_tokens, bool split_special_tokens) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  if (add_special_tokens) ids = around_.before;
  encode_into(ids, text, split_special_tokens, false);
  if (add_special_tokens) ids.insert(ids.end(), around_.after.begin(), around_.after.end());
  return ids;
}

std::vector<int32_t> FileTokenizer::encode_guarded(std::string_view text) const {
  std::vector<int32_t> ids;
  encode_into(ids, text, false, true);
  return ids;
}

void FileTokenizer::encode_into(std::vector<int32_t>& ids, std::string_view text, bool split_special_tokens, bool guarded) const {
  std::string repaired;
  if (!valid_utf8(text)) text = repaired = repair_utf8(text);
  each_piece(raw_, added_, text, split_special_tokens, [&](const AddedToken* token, size_t begin, size_t end) {
    if (token) return ids.push_back(token->id);
    const std::string_view part = text.substr(begin, end - begin);
    std::string piece = normalize(normalizer_, guarded ? without_guards(part) : std::string(part));
    if (normalized_.empty()) return encode_text(std::move(piece), begin == 0, ids);
    const bool split = split_special_tokens || (guarded && part.find(kGuard) != part.npos);
    each_piece(normalized_, added_, piece, split, [&](const AddedToken* inner, size_t first, size_t last) {
      if (inner) return ids.push_back(inner->id);
      encode_text(piece.substr(first, last - first), begin == 0 && first == 0, ids);
    });
  });
}

void FileTokenizer::encode_text(std::string text, bool at_start, std::vector<int32_t>& ids) const {
  if (text.empty()) return;
  Words words;
  words.ranges.emplace_back(0, text.size());
  words.text = std::move(text);
  pre_tokenize(pre_tokenizer_, words, at_start);
  for (auto [begin, end] : words.ranges) model_->encode_word(std::string_view(words.text).substr(begin, end - begin), ids);
}

std::string FileTokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> pieces;
  pieces.reserve(ids.size());
  for (int32_t id : ids)
    if (!skip_special_tokens || !is_special(id))
      if (auto token = id_to_token(id)) pieces.push_back(std::move(*token));  // ids outside the vocabulary give nothing
  return decode_tokens(decoder_, std::move(pieces));
}

std::string FileTokenizer::token_bytes(int32_t id) const {
  const auto token = id_to_token(id);
  return token ? bytes_of_token(decoder_, *token) : std::string();
}

std::optional<int32_t> FileTokenizer::token_to_id(std::string_view token) const {
  if (auto found = added_by_content_.find(std::string(token)); found != added_by_content_.end()) return added_[found->second].id;
  return model_->id_of(token);
}

std::optional<std::string> FileTokenizer::id_to_token(int32_t id) const {
  if (auto found = added_by_id_.find(id); found != added_by_id_.end()) return added_[found->second].content;
  if (auto token = model_->token_of(id)) return std::string(*token);
  return std::nullopt;
}

bool FileTokenizer::is_special(int32_t id) const {
  auto found = added_by_id_.find(id);
  return found != added_by_id_.end() && added_[found->second].special;
}

}  // namespace

std::vector<TokenBytes> vocabulary_tokens(const Tokenizer& tokenizer) {
  std::vector<TokenBytes> out(static_cast<size_t>(tokenizer.vocab_size()));
  for (size_t id = 0; id < out.size(); ++id) {
    out[id].special = tokenizer.is_special(static_cast<int32_t>(id));
    out[id].bytes =
        out[id].special ? tokenizer.id_to_token(static_cast<int32_t>(id)).value_or("") : tokenizer.token_bytes(static_cast<int32_t>(id));
  }
  return out;
}

std::unique_ptr<Tokenizer> Tokenizer::from_json(std::string_view bytes, const std::string& file) {
  simdjson::dom::parser parser;
  Json root;
  Place place{file, "", 0};
  if (auto error = parser.parse(bytes.data(), bytes.size(), true).get(root))
    throw Error(ErrorKind::bad_data, fmt::format("{}: is not JSON: {} ({} bytes)", file, simdjson::error_message(error), bytes.size()),
                "Download the file again; a file of a few hundred bytes may be a Git LFS pointer.");
  return std::make_unique<FileTokenizer>(as_object(root, place), place);
}

}  // namespace loraine
