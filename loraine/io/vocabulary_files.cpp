// See vocabulary_files.h.
#include "loraine/io/vocabulary_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/vocabulary/sentencepiece_tokenizer.h"
#include "loraine/io/vocabulary/token_ranks.h"

namespace loraine {
namespace {

const NamedText* file_named(const ModelFiles& files, const char* name) {
  for (const NamedText& file : files.tokenizer_files)
    if (file.name == name) return &file;
  return nullptr;
}

std::string text_in(const Json& object, const char* key) {  // empty where it is no text
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::string content_of(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  return token.is_object() ? text_in(token, "content") : "";
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

using Vocabulary = std::unordered_map<std::string, int64_t>;

// The ids and tokens of tokenizer_config.json's added_tokens_decoder, each as it stands there.
std::map<int64_t, Json> listed_tokens(const ModelFiles& files) {
  std::map<int64_t, Json> listed;
  if (!files.tokenizer_config || !files.tokenizer_config->contains("added_tokens_decoder")) return listed;
  for (const auto& [id, token] : (*files.tokenizer_config)["added_tokens_decoder"].items()) {
    if (id.empty() || id.size() > 9 || id.find_first_not_of("0123456789") != std::string::npos || content_of(token).empty())
      throw Error(ErrorKind::bad_data, files.path + "/tokenizer_config.json: added_tokens_decoder has an entry that is no id and token");
    listed[std::stoll(id)] = token;
  }
  return listed;
}

// Those of tokenizer_config.json and added_tokens.json, the tokenizer's own, and the special ones; new ones get the ids behind the
// vocabulary.
Json added_tokens(const ModelFiles& files, const Vocabulary& vocabulary, const Json& own = Json::array()) {
  std::map<int64_t, Json> by_id;
  std::map<std::string, int64_t> ids;
  int64_t next = 0;
  for (const auto& [token, id] : vocabulary) next = std::max(next, id + 1);
  const auto put = [&](Json token, int64_t id) {
    if (ids.contains(token["content"])) return;
    token["id"] = id;
    ids[token["content"]] = id;
    by_id[id] = std::move(token);
    next = std::max(next, id + 1);
  };
  const std::vector<std::string> special = named_tokens(files);
  for (const auto& [id, token] : listed_tokens(files)) {
    Json whole = added_token(content_of(token), 0, false);
    if (token.is_object())
      for (const auto& [key, value] : whole.items()) whole[key] = token.value(key, value);
    put(std::move(whole), id);
  }
  const Json list = file_named(files, "added_tokens.json") ? parse_json_file(files.path + "/added_tokens.json") : Json::object();
  for (const auto& [content, id] : list.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX || content.empty())
      throw Error(ErrorKind::bad_data, fmt::format("{}/added_tokens.json: {} has no id", files.path, in_quotes(content)));
    put(added_token(content, 0, std::find(special.begin(), special.end(), content) != special.end()), id.get<int64_t>());
  }
  for (const Json& token : own)
    if (!by_id.contains(token["id"])) put(token, token["id"]);
  for (const std::string& content : special) {
    const auto known = vocabulary.find(content);
    if (!ids.contains(content)) put(added_token(content, 0, true), known == vocabulary.end() ? next : known->second);
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

constexpr const char* kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr const char* kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Kimi's, whose classes of letters leave Han out.
constexpr const char* kKimiWords =
    R"([\p{Han}]+)"
    R"(|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])*(?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])+(?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// tokenizer_class without "Fast"; empty where none that says something is named.
std::string class_of(const ModelFiles& files) {
  std::string name = files.tokenizer_config ? text_in(*files.tokenizer_config, "tokenizer_class") : "";
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name == "PreTrainedTokenizer" || name == "TokenizersBackend" ? "" : name;
}

// How text is cut into words before its merges: the one thing vocab.json and merges.txt do not say.
enum class Words { gpt2, qwen2, unknown };

Words words_of(const ModelFiles& files, std::string& assumed) {
  const std::string name = class_of(files);
  if (name == "GPT2Tokenizer") return Words::gpt2;
  if (name == "Qwen2Tokenizer") return Words::qwen2;
  if (!name.empty()) return Words::unknown;
  const bool qwen = text_in(files.config, "model_type").starts_with("qwen");
  assumed = qwen ? "Qwen2" : "GPT-2";
  return qwen ? Words::qwen2 : Words::gpt2;
}

void note_assumed(ModelFiles& files, const std::string& made_from, const std::string& assumed) {
  files.tokenizer_note = fmt::format("{}: has no tokenizer.json; it was made from {}, {}", files.path, made_from, assumed);
}

void from_merges(ModelFiles& files, const NamedText& merges) {
  std::string assumed;
  const Words words = words_of(files, assumed);
  if (words == Words::unknown) {
    files.tokenizer_note =
        fmt::format("it has vocab.json and merges.txt for a {}", (*files.tokenizer_config)["tokenizer_class"].get<std::string>());
    return;
  }
  const Json vocabulary = parse_json_file(files.path + "/vocab.json");
  if (!vocabulary.is_object()) throw Error(ErrorKind::bad_data, files.path + "/vocab.json: is not an object of tokens and ids");
  Vocabulary ids;
  for (const auto& [token, id] : vocabulary.items())
    if (id.is_number_integer()) ids[token] = id.get<int64_t>();
  Json tokenizer = {{"version", "1.0"},          {"truncation", nullptr},
                    {"padding", nullptr},        {"added_tokens", added_tokens(files, ids)},
                    {"normalizer", nullptr},     {"pre_tokenizer", json_byte_level(true)},
                    {"post_processor", nullptr}, {"decoder", json_byte_level(true)}};
  if (words == Words::qwen2) {
    tokenizer["normalizer"] = {{"type", "NFC"}};
    tokenizer["pre_tokenizer"] = json_sequence("pretokenizers", {json_split(kQwen2Words, "Isolated"), json_byte_level(false)});
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
                        {"merges", merges_of(merges, files.path)}};
  files.tokenizer_json = tokenizer.dump(2) + "\n";
  if (!assumed.empty()) note_assumed(files, "vocab.json and merges.txt", "with text cut into words as " + assumed + "'s tokenizer does");
}

void set_default(ModelFiles& files, const char* key, const std::string& token) {
  if (!files.tokenizer_config) files.tokenizer_config = Json::object();
  if (!files.tokenizer_config->contains(key)) (*files.tokenizer_config)[key] = token;
}

bool says(const ModelFiles& files, const char* key, bool otherwise) {
  if (!files.tokenizer_config) return otherwise;
  const auto found = files.tokenizer_config->find(key);
  return found != files.tokenizer_config->end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

// Writes tokenizer_json, with bos and eos around a text where tokenizer_config.json asks for them. before_normalizer: added tokens are
// found in the text as it is, so that what lies between them is normalized part by part.
void finish(ModelFiles& files, TokenizerParts& parts, const Json& own, bool adds_bos, bool before_normalizer = false) {
  Vocabulary ids(parts.ids.begin(), parts.ids.end());
  for (size_t id = 0; id < parts.scores.size(); ++id) ids.emplace(parts.scores[id].first, static_cast<int64_t>(id));
  Json added = added_tokens(files, ids, own);
  for (Json& token : added)
    if (before_normalizer) token["normalized"] = false;
  const auto token = [&](const char* key, bool asked) {
    TokenIds found;
    const Json named = files.tokenizer_config ? files.tokenizer_config->value(key, Json()) : Json();
    for (const Json& entry : added)
      if (asked && entry["content"] == content_of(named)) found.emplace_back(entry["content"], entry["id"]);
    return found;
  };
  parts.post_processor = json_tokens_around(token("bos_token", says(files, "add_bos_token", adds_bos)),
                                            token("eos_token", says(files, "add_eos_token", false)));
  files.tokenizer_json = tokenizer_text(parts, added);
}

void from_sentencepiece(ModelFiles& files, const NamedText& text) {
  const std::string file = files.path + "/" + text.name, name = class_of(files), model = text_in(files.config, "model_type");
  SentencePieceFile pieces = read_sentencepiece(text.text, file);
  PieceUse use;
  const bool llama = name == "LlamaTokenizer" || name == "CodeLlamaTokenizer" || name == "Phi3Tokenizer" ||
                     (name.empty() && (model == "llama" || model == "mistral" || model == "mixtral"));
  if (llama) use.rules = says(files, "legacy", true) ? PieceRules::llama_legacy : PieceRules::llama;
  else if (name == "GemmaTokenizer" || (name.empty() && model.starts_with("gemma"))) use.rules = PieceRules::gemma;
  use.add_prefix_space = says(files, "add_prefix_space", true);
  for (const auto& [id, token] : listed_tokens(files)) use.renamed[id] = content_of(token);
  rename_pieces(pieces, use);
  for (const auto& [key, id] :
       {std::pair{"bos_token", pieces.bos_id}, {"eos_token", pieces.eos_id}, {"unk_token", pieces.unk_id}, {"pad_token", pieces.pad_id}})
    if (id >= 0) set_default(files, key, pieces.pieces[static_cast<size_t>(id)].text);
  TokenizerParts parts = sentencepiece_parts(pieces, use, file);
  const bool own_rules = use.rules == PieceRules::sentencepiece;
  finish(files, parts, sentencepiece_added_tokens(pieces, use), !(own_rules && name.empty()), own_rules && pieces.add_dummy_prefix);
  if (own_rules && !name.empty())
    note_assumed(files, text.name, "which is read as SentencePiece itself reads it, whatever a " + name + " does besides");
}

// Special tokens that the classes of these files make themselves, with ids from `first` on.
Json own_tokens(std::vector<std::string> contents, int64_t first) {
  Json tokens = Json::array();
  for (std::string& content : contents) tokens.push_back(added_token(content, first++, true));
  return tokens;
}

std::vector<std::string> llama3_tokens() {
  std::vector<std::string> tokens = {"<|begin_of_text|>", "<|end_of_text|>"};
  for (int number = 0; tokens.size() < 256; ++number) {
    if (tokens.size() == 6) tokens.insert(tokens.end(), {"<|start_header_id|>", "<|end_header_id|>"});
    if (tokens.size() == 9) tokens.emplace_back("<|eot_id|>");
    tokens.push_back(fmt::format("<|reserved_special_token_{}|>", number));
  }
  return tokens;
}

void from_ranks(ModelFiles& files, const NamedText& text) {
  const std::string file = files.path + "/" + text.name, name = class_of(files);
  const TokenRanks ranks = read_tiktoken(text.text, file);
  const bool qwen = name == "QWenTokenizer" || text.name == "qwen.tiktoken",
             kimi = name == "TikTokenTokenizer" || text.name == "tiktoken.model";
  const bool llama3 = name == "LlamaTokenizer" || (name.empty() && text_in(files.config, "model_type") == "llama");
  TokenizerParts parts = token_rank_parts(ranks, 0, qwen ? kQwen2Words : kimi ? kKimiWords : kLlama3Words, file);
  const int64_t next = ranks.back().second + 1;
  std::vector<std::string> own;
  if (qwen) {
    parts.normalizer = {{"type", "NFC"}};
    own = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    for (int number = 0; number < 205; ++number) own.push_back(fmt::format("<|extra_{}|>", number));
    set_default(files, "eos_token", own.front());
  } else if (kimi) {
    for (int number = 0; number < 256; ++number) own.push_back(fmt::format("<|reserved_token_{}|>", next + number));
  } else if (llama3 && listed_tokens(files).empty()) {
    own = llama3_tokens();
    set_default(files, "bos_token", own[0]);
    set_default(files, "eos_token", own[1]);
  }
  finish(files, parts, own_tokens(std::move(own), next), llama3);
  if (!qwen && !kimi && !llama3 && name != "ChatGLM4Tokenizer")
    note_assumed(files, text.name, "with text cut into words as Llama 3's tokenizer does");
}

void from_tekken(ModelFiles& files, const NamedText& text) {
  const std::string file = files.path + "/" + text.name;
  const Tekken tekken = read_tekken(parse_json_file(file), file);
  TokenizerParts parts = token_rank_parts(tekken.ranks, static_cast<int64_t>(tekken.special.size()), tekken.pattern.c_str(), file);
  Vocabulary special;
  for (const std::string& token : tekken.special) special.emplace(token, static_cast<int64_t>(special.size()));
  std::erase_if(parts.ids,
                [&](const auto& token) { return special.contains(token.first); });  // as transformers' converter: the special one stays
  parts.ids.insert(parts.ids.begin(), special.begin(), special.end());
  for (const auto& [key, token] : {std::pair{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"pad_token", "<pad>"}})
    if (special.contains(token)) set_default(files, key, token);
  finish(files, parts, own_tokens(tekken.special, 0), true);
}

}  // namespace

void tokenizer_from_vocabulary(ModelFiles& files) {
  const NamedText *vocab = file_named(files, "vocab.json"), *merges = file_named(files, "merges.txt");
  if (vocab && merges) return from_merges(files, *merges);
  if (const NamedText* model = file_named(files, "tokenizer.model"); model && !is_tiktoken(model->text))
    return from_sentencepiece(files, *model);
  for (const char* name : {"tokenizer.model", "qwen.tiktoken", "tiktoken.model"})
    if (const NamedText* ranks = file_named(files, name)) return from_ranks(files, *ranks);
  if (const NamedText* tekken = file_named(files, "tekken.json")) from_tekken(files, *tekken);
}

}  // namespace loraine
