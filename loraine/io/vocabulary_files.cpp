// See vocabulary_files.h.
#include "loraine/io/vocabulary_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

const NamedText* file_named(const ModelFiles& files, const char* name) {
  for (const NamedText& file : files.tokenizer_files)
    if (file.name == name) return &file;
  return nullptr;
}

std::string content_of(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  return token.is_object() ? token.value("content", "") : "";
}

// The special tokens that tokenizer_config.json names, in transformers' order.
std::vector<std::string> named_tokens(const ModelFiles& files) {
  const Json named = files.tokenizer_config.value_or(Json::object());
  std::vector<std::string> found;
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    if (named.contains(key)) found.push_back(content_of(named[key]));
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"})
    if (named.contains(key) && named[key].is_array())
      for (const Json& token : named[key]) found.push_back(content_of(token));
  std::erase(found, "");
  return found;
}

Json added_token(const std::string& content, int64_t id, bool special) {
  return {{"id", id},        {"content", content}, {"single_word", false},  {"lstrip", false},
          {"rstrip", false}, {"special", special}, {"normalized", !special}};
}

// Those of tokenizer_config.json and added_tokens.json, and the special ones; new ones get the ids behind the vocabulary.
Json added_tokens(const ModelFiles& files, const Json& vocabulary) {
  std::map<int64_t, Json> by_id;
  std::map<std::string, int64_t> ids;
  int64_t next = 0;
  for (const auto& [token, id] : vocabulary.items()) next = std::max(next, id.is_number_integer() ? id.get<int64_t>() + 1 : 0);
  const auto put = [&](Json token, int64_t id) {
    if (ids.contains(token["content"])) return;
    token["id"] = id;
    ids[token["content"]] = id;
    by_id[id] = std::move(token);
    next = std::max(next, id + 1);
  };
  const std::vector<std::string> special = named_tokens(files);
  if (files.tokenizer_config && files.tokenizer_config->contains("added_tokens_decoder"))
    for (const auto& [id, token] : (*files.tokenizer_config)["added_tokens_decoder"].items()) {
      if (id.empty() || id.size() > 9 || id.find_first_not_of("0123456789") != std::string::npos || content_of(token).empty())
        throw Error(ErrorKind::bad_data, files.path + "/tokenizer_config.json: added_tokens_decoder has an entry that is no id and token");
      Json whole = added_token(content_of(token), 0, false);
      for (const auto& [key, value] : whole.items()) whole[key] = token.value(key, value);
      put(std::move(whole), std::stoll(id));
    }
  const Json list = file_named(files, "added_tokens.json") ? parse_json_file(files.path + "/added_tokens.json") : Json::object();
  for (const auto& [content, id] : list.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX || content.empty())
      throw Error(ErrorKind::bad_data, fmt::format("{}/added_tokens.json: {} has no id", files.path, in_quotes(content)));
    put(added_token(content, 0, std::find(special.begin(), special.end(), content) != special.end()), id.get<int64_t>());
  }
  for (const std::string& content : special) {
    if (!ids.contains(content))
      put(added_token(content, 0, true),
          vocabulary.contains(content) && vocabulary[content].is_number_integer() ? vocabulary[content].get<int64_t>() : next);
    by_id[ids[content]]["special"] = true;
  }
  Json tokens = Json::array();
  for (auto& [id, token] : by_id) tokens.push_back(std::move(token));
  return tokens;
}

Json merges_of(const NamedText& file, const std::string& folder) {
  Json merges = Json::array();
  int number = 0;
  for (size_t at = 0; at < file.text.size();) {
    const size_t end = std::min(file.text.find('\n', at), file.text.size());
    std::string line = file.text.substr(at, end - at);
    at = end + 1;
    ++number;
    while (line.ends_with('\r') || line.ends_with(' ')) line.pop_back();
    if (line.empty() || line.starts_with("#version")) continue;
    const size_t space = line.find(' ', 1);
    if (!is_utf8(line) || space == std::string::npos || space + 1 == line.size())
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}/{}:{}: {} is not two tokens with a space between", folder, file.name, number, in_quotes(line)));
    merges.push_back({line.substr(0, space), line.substr(space + 1)});
  }
  return merges;
}

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

constexpr const char* kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// How text is cut into words before its merges: the one thing the two files do not say.
enum class Words { gpt2, qwen2, unknown };

Words words_of(const ModelFiles& files, std::string& assumed) {
  std::string name = files.tokenizer_config ? files.tokenizer_config->value("tokenizer_class", "") : "";
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  if (name == "GPT2Tokenizer") return Words::gpt2;
  if (name == "Qwen2Tokenizer") return Words::qwen2;
  if (!name.empty() && name != "PreTrainedTokenizer" && name != "TokenizersBackend") return Words::unknown;
  const bool qwen = files.config.value("model_type", "").starts_with("qwen");
  assumed = qwen ? "Qwen2" : "GPT-2";
  return qwen ? Words::qwen2 : Words::gpt2;
}

}  // namespace

void tokenizer_from_vocabulary(ModelFiles& files) {
  const NamedText *vocab = file_named(files, "vocab.json"), *merges = file_named(files, "merges.txt");
  if (!vocab || !merges) {
    if (file_named(files, "tokenizer.model")) files.tokenizer_note = "it has tokenizer.model instead";
    return;
  }
  std::string assumed;
  const Words words = words_of(files, assumed);
  if (words == Words::unknown) {
    files.tokenizer_note =
        fmt::format("it has vocab.json and merges.txt for a {}", (*files.tokenizer_config)["tokenizer_class"].get<std::string>());
    return;
  }
  const Json vocabulary = parse_json_file(files.path + "/vocab.json");
  if (!vocabulary.is_object()) throw Error(ErrorKind::bad_data, files.path + "/vocab.json: is not an object of tokens and ids");
  Json tokenizer = {{"version", "1.0"},          {"truncation", nullptr},
                    {"padding", nullptr},        {"added_tokens", added_tokens(files, vocabulary)},
                    {"normalizer", nullptr},     {"pre_tokenizer", byte_level(true)},
                    {"post_processor", nullptr}, {"decoder", byte_level(true)}};
  if (words == Words::qwen2) {
    const Json split = {{"type", "Split"}, {"pattern", {{"Regex", kQwen2Words}}}, {"behavior", "Isolated"}, {"invert", false}};
    tokenizer["normalizer"] = {{"type", "NFC"}};
    tokenizer["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, byte_level(false)}}};
  }
  tokenizer["model"] = {{"type", "BPE"},
                        {"dropout", nullptr},
                        {"unk_token", nullptr},
                        {"continuing_subword_prefix", ""},
                        {"end_of_word_suffix", ""},
                        {"fuse_unk", false},
                        {"byte_fallback", false},
                        {"ignore_merges", false},
                        {"vocab", vocabulary},
                        {"merges", merges_of(*merges, files.path)}};
  files.tokenizer_json = tokenizer.dump(2) + "\n";
  if (!assumed.empty())
    files.tokenizer_note = fmt::format(
        "{}: has no tokenizer.json; it was made from vocab.json and merges.txt, with text cut into words as {}'s tokenizer does",
        files.path, assumed);
}

}  // namespace loraine
