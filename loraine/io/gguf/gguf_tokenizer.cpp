// tokenizer.json and tokenizer_config.json from the tokenizer.ggml metadata of a GGUF file: byte-level BPE and SentencePiece BPE.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/gguf/gguf_config.h"
#include "loraine/io/gguf/gguf_pre_tokenizer.h"

namespace loraine {
namespace {

enum TokenType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct Vocabulary {
  std::vector<std::string_view> tokens;
  std::vector<int64_t> types;
  std::unordered_map<std::string_view, int64_t> ids;
  size_t model_size = 0;  // tokens [0, model_size) are the model's vocabulary; the special ones behind are only added tokens
};

[[noreturn]] void refuse(const GgufFile& file, const std::string& what) {
  throw Error(ErrorKind::bad_data, file.path + ": " + what, "give the model as a Hugging Face folder with its tokenizer.json");
}

const GgufValue& string_array(const GgufFile& file, const char* key) {
  const GgufValue* value = file.find(key);
  if (!value || value->type != GgufType::Array || value->element != GgufType::String)
    refuse(file, std::string(key) + (value ? " is not an array of strings" : " is missing"));
  return *value;
}

bool is_added(int64_t type) { return type == kUnknown || type == kControl || type == kUserDefined; }

Vocabulary read_vocabulary(const GgufFile& file) {
  Vocabulary vocabulary;
  vocabulary.tokens = string_array(file, "tokenizer.ggml.tokens").texts;
  vocabulary.types = file.integers("tokenizer.ggml.token_type");
  size_t count = vocabulary.tokens.size();
  if (count == 0 || count > (1u << 24)) refuse(file, fmt::format("has a vocabulary of {} tokens", count));
  if (vocabulary.types.empty()) vocabulary.types.assign(count, kNormal);
  if (vocabulary.types.size() != count)
    refuse(file, fmt::format("tokenizer.ggml.token_type has {} entries for {} tokens", vocabulary.types.size(), count));
  // Unused tokens at the end only fill the embedding matrix up; Hugging Face's tokenizer does not have them.
  while (count > 1 && vocabulary.types[count - 1] == kUnused) --count;
  vocabulary.tokens.resize(count);
  vocabulary.types.resize(count);
  vocabulary.ids.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    if (!is_utf8(vocabulary.tokens[i])) refuse(file, fmt::format("token {} is not valid UTF-8", i));
    if (!vocabulary.ids.emplace(vocabulary.tokens[i], static_cast<int64_t>(i)).second)
      refuse(file, fmt::format("token {} {} stands twice in the vocabulary", i, in_quotes(vocabulary.tokens[i])));
    if (is_added(vocabulary.types[i]) && vocabulary.tokens[i].empty()) refuse(file, fmt::format("token {} is special and empty", i));
  }
  vocabulary.model_size = count;
  while (vocabulary.model_size > 1 && is_added(vocabulary.types[vocabulary.model_size - 1])) --vocabulary.model_size;
  return vocabulary;
}

std::optional<size_t> special_id(const GgufFile& file, const Vocabulary& vocabulary, const char* name) {
  auto id = file.unsigned_integer(std::string("tokenizer.ggml.") + name + "_token_id");
  if (!id || *id >= vocabulary.tokens.size()) return std::nullopt;
  return static_cast<size_t>(*id);
}

using Merge = std::pair<std::string_view, std::string_view>;

std::vector<Merge> written_merges(const GgufFile& file, const Vocabulary& vocabulary) {
  std::vector<Merge> merges;
  std::string joined;
  const auto& texts = string_array(file, "tokenizer.ggml.merges").texts;
  merges.reserve(texts.size());
  for (std::string_view text : texts) {
    size_t space = text.find(' ', 1);  // a part may not be empty, so a space at 0 belongs to the first part
    if (text.size() < 3 || space == std::string_view::npos || space + 1 == text.size())
      refuse(file, "the merge " + in_quotes(text) + " is not two parts with a space between");
    Merge merge{text.substr(0, space), text.substr(space + 1)};
    joined.assign(merge.first).append(merge.second);
    for (std::string_view part : {merge.first, merge.second, std::string_view(joined)})
      if (!vocabulary.ids.contains(part))
        refuse(file, "the merge " + in_quotes(text) + " needs the token " + in_quotes(part) + ", which is not in the vocabulary");
    merges.push_back(merge);
  }
  return merges;
}

// SentencePiece BPE has scores instead of merges: every split of a piece into two pieces is a merge, best score first. Same order as
// transformers' conversion: pieces by id, the splits of one by the ids of their parts, then a stable sort by falling score.
std::vector<Merge> merges_from_scores(const GgufFile& file, const Vocabulary& vocabulary) {
  std::vector<float> scores = file.floats("tokenizer.ggml.scores");
  if (scores.size() < vocabulary.tokens.size())
    refuse(file, fmt::format("tokenizer.ggml.scores has {} entries for {} tokens", scores.size(), vocabulary.tokens.size()));
  struct Scored {
    Merge merge;
    float score;
  };
  std::vector<Scored> all;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    std::string_view piece = vocabulary.tokens[id];
    if (!(scores[id] == scores[id])) refuse(file, fmt::format("the score of token {} is not a number", id));
    if (piece.size() > 1024) refuse(file, fmt::format("token {} has {} bytes", id, piece.size()));
    std::vector<std::pair<std::pair<int64_t, int64_t>, Merge>> splits;
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      if ((static_cast<unsigned char>(piece[cut]) & 0xc0) == 0x80) continue;  // inside a character
      auto left = vocabulary.ids.find(piece.substr(0, cut)), right = vocabulary.ids.find(piece.substr(cut));
      if (left != vocabulary.ids.end() && right != vocabulary.ids.end())
        splits.push_back({{left->second, right->second}, {piece.substr(0, cut), piece.substr(cut)}});
    }
    std::sort(splits.begin(), splits.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& split : splits) all.push_back({split.second, scores[id]});
  }
  std::stable_sort(all.begin(), all.end(), [](const Scored& a, const Scored& b) { return a.score > b.score; });
  std::vector<Merge> merges;
  merges.reserve(all.size());
  for (const Scored& scored : all) merges.push_back(scored.merge);
  return merges;
}

void append_merges(std::string& out, const std::vector<Merge>& merges) {
  bool spaces = std::any_of(merges.begin(), merges.end(), [](const Merge& merge) {
    return merge.first.find(' ') != std::string_view::npos || merge.second.find(' ') != std::string_view::npos;
  });
  const char* comma = "";
  for (const auto& [left, right] : merges) {
    out += comma;
    if (spaces) {
      out += '[';
      append_json_string(out, left);
      out += ',';
      append_json_string(out, right);
      out += ']';
    } else {
      append_json_string(out, std::string(left) + " " + std::string(right));
    }
    comma = ",";
  }
}

struct Rules {  // the parts around the model, as JSON
  std::string normalizer = "null", pre_tokenizer = "null", post_processor = "null", decoder = "null";
  bool ignore_merges = false, fuse_unk = false, byte_fallback = false;
};

std::string byte_level(bool add_prefix_space, bool trim_offsets, bool use_regex) {
  return fmt::format(R"({{"type":"ByteLevel","add_prefix_space":{},"trim_offsets":{},"use_regex":{}}})", add_prefix_space, trim_offsets,
                     use_regex);
}

// Cuts by each of the patterns in turn.
std::string split_then_bytes(const std::vector<const char*>& patterns, bool trim_offsets) {
  std::string out = R"({"type":"Sequence","pretokenizers":[)";
  for (const char* regex : patterns) {
    out += R"({"type":"Split","pattern":{"Regex":)";
    append_json_string(out, regex);
    out += R"(},"behavior":"Isolated","invert":false},)";
  }
  return out + byte_level(false, trim_offsets, false) + "]}";
}

Rules byte_level_rules(const GgufFile& file) {
  auto pre = file.text("tokenizer.ggml.pre");
  if (!pre) refuse(file, "has no tokenizer.ggml.pre, so how its tokenizer cuts text into words is unknown (an old file)");
  const PreTokenizer* known = find_pre_tokenizer(*pre);
  if (!known) {
    std::string names;
    for (const PreTokenizer& each : pre_tokenizers()) names += (names.empty() ? "" : ", ") + std::string(each.name);
    refuse(file, "tokenizer.ggml.pre is " + in_quotes(*pre) + ", expected one of " + names);
  }
  Rules rules;
  rules.ignore_merges = known->ignore_merges;
  if (known->nfc) rules.normalizer = R"({"type":"NFC"})";
  if (known->patterns.size() == 0) {
    rules.decoder = byte_level(true, true, true);
    rules.pre_tokenizer = byte_level(false, true, true);
    if (known->digits)
      rules.pre_tokenizer =
          R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},)" + rules.pre_tokenizer + "]}";
    return rules;
  }
  // Offsets as the published tokenizers of Llama 3 (with a first token of its own) and Qwen have them.
  const bool llama = known->add_bos;
  rules.pre_tokenizer = split_then_bytes(known->patterns, llama);
  rules.post_processor = byte_level(llama, false, llama);
  rules.decoder = byte_level(llama, llama, llama);
  return rules;
}

// Gemma 4: pieces with ▁ for spaces and written merges, over the whole text.
Rules gemma4_rules(const Vocabulary& vocabulary) {
  Rules rules;
  rules.fuse_unk = true;
  rules.byte_fallback = vocabulary.ids.contains("<0x00>") && vocabulary.ids.contains("<0xFF>");
  rules.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}";
  rules.decoder =
      "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"▁\"},\"content\":\" \"},"
      "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}";
  return rules;
}

Rules sentencepiece_rules(const GgufFile& file, const Vocabulary& vocabulary) {
  bool prefix = file.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  Rules rules;
  rules.fuse_unk = true;
  rules.byte_fallback = vocabulary.ids.contains("<0x00>") && vocabulary.ids.contains("<0xFF>");
  std::string replace = "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}";
  rules.normalizer =
      "{\"type\":\"Sequence\",\"normalizers\":[" + std::string(prefix ? "{\"type\":\"Prepend\",\"prepend\":\"▁\"}," : "") + replace + "]}";
  rules.decoder =
      "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"▁\"},\"content\":\" \"},"
      "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}" +
      std::string(prefix ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}" : "") + "]}";
  return rules;
}

bool adds_bos(const GgufFile& file) {
  std::string model = file.text("tokenizer.ggml.model").value_or(""), pre = file.text("tokenizer.ggml.pre").value_or("");
  const PreTokenizer* known = find_pre_tokenizer(pre);
  return file.boolean("tokenizer.ggml.add_bos_token").value_or(model == "llama" || (known && known->add_bos));  // llama.cpp's defaults
}
bool adds_eos(const GgufFile& file) { return file.boolean("tokenizer.ggml.add_eos_token").value_or(false); }

// {"type":"TemplateProcessing"} with bos and eos around the text, or "" when neither is added.
std::string template_processing(const GgufFile& file, const Vocabulary& vocabulary) {
  auto bos = adds_bos(file) ? special_id(file, vocabulary, "bos") : std::nullopt;
  auto eos = adds_eos(file) ? special_id(file, vocabulary, "eos") : std::nullopt;
  if (!bos && !eos) return "";
  auto around = [&](const char* sequence, int type) {
    auto special = [&](size_t id) { return Json{{"SpecialToken", {{"id", vocabulary.tokens[id]}, {"type_id", type}}}}; };
    Json items = Json::array();
    if (bos) items.push_back(special(*bos));
    items.push_back({{"Sequence", {{"id", sequence}, {"type_id", type}}}});
    if (eos) items.push_back(special(*eos));
    return items;
  };
  Json single = around("A", 0), pair = single, second = around("B", 1), tokens = Json::object();
  pair.insert(pair.end(), second.begin(), second.end());
  for (auto id : {bos, eos})
    if (id)
      tokens[std::string(vocabulary.tokens[*id])] = {{"id", vocabulary.tokens[*id]}, {"ids", {*id}}, {"tokens", {vocabulary.tokens[*id]}}};
  return Json{{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}}.dump();
}

std::string added_token(std::string_view content, int64_t type) {
  std::string out = R"("content":)";
  append_json_string(out, content);
  return out + fmt::format(R"(,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":{})", type != kUserDefined);
}

std::string vocabulary_text(const Vocabulary& vocabulary) {
  std::string out;
  for (size_t i = 0; i < vocabulary.model_size; ++i) {
    if (i) out += ',';
    append_json_string(out, vocabulary.tokens[i]);
    out += fmt::format(":{}", i);
  }
  return out;
}

}  // namespace

bool has_gguf_tokenizer(const GgufFile& file) {
  auto model = file.text("tokenizer.ggml.model");
  return model && *model != "no_vocab" && *model != "none";
}

std::string gguf_tokenizer_json(const GgufFile& file) {
  std::string model = file.text("tokenizer.ggml.model").value_or("");
  if (model != "gpt2" && model != "llama" && model != "gemma4")
    refuse(file, "tokenizer.ggml.model is " + in_quotes(model) +
                     ", expected gpt2 (byte-level BPE), llama (SentencePiece BPE) or gemma4 (its merges written out)");
  Vocabulary vocabulary = read_vocabulary(file);
  Rules rules = model == "gpt2"     ? byte_level_rules(file)
                : model == "gemma4" ? gemma4_rules(vocabulary)
                                    : sentencepiece_rules(file, vocabulary);
  std::vector<Merge> merges = model != "llama" ? written_merges(file, vocabulary) : merges_from_scores(file, vocabulary);
  if (std::string around = template_processing(file, vocabulary); !around.empty())
    rules.post_processor =
        rules.post_processor == "null" ? around : R"({"type":"Sequence","processors":[)" + rules.post_processor + "," + around + "]}";

  std::string out = R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)";
  const char* comma = "";
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    if (!is_added(vocabulary.types[i])) continue;
    out += fmt::format(R"({}{{"id":{},{}}})", comma, i, added_token(vocabulary.tokens[i], vocabulary.types[i]));
    comma = ",";
  }
  out += "],\"normalizer\":" + rules.normalizer + ",\"pre_tokenizer\":" + rules.pre_tokenizer +
         ",\"post_processor\":" + rules.post_processor + ",\"decoder\":" + rules.decoder +
         R"(,"model":{"type":"BPE","dropout":null,"unk_token":)";
  auto unknown = model != "gpt2" ? special_id(file, vocabulary, "unknown") : std::nullopt;
  if (unknown && *unknown < vocabulary.model_size) append_json_string(out, vocabulary.tokens[*unknown]);
  else out += "null";
  out += fmt::format(
      R"(,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":{},"byte_fallback":{},"ignore_merges":{},"vocab":{{)",
      rules.fuse_unk, rules.byte_fallback, rules.ignore_merges);
  out += vocabulary_text(vocabulary);
  out += R"(},"merges":[)";
  append_merges(out, merges);
  return out + "]}}";
}

Json gguf_tokenizer_config(const GgufFile& file) {
  Vocabulary vocabulary = read_vocabulary(file);
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"add_bos_token", adds_bos(file)},
                 {"add_eos_token", adds_eos(file)},
                 {"add_prefix_space", false}};
  for (auto [key, name] : {std::pair{"bos", "bos_token"}, {"eos", "eos_token"}, {"padding", "pad_token"}, {"unknown", "unk_token"}})
    if (auto id = special_id(file, vocabulary, key)) config[name] = vocabulary.tokens[*id];
  if (auto length = file.unsigned_integer(file.text("general.architecture").value_or("") + ".context_length"))
    config["model_max_length"] = *length;
  Json added = Json::object();
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i)
    if (is_added(vocabulary.types[i]))
      added[std::to_string(i)] = Json::parse("{" + added_token(vocabulary.tokens[i], vocabulary.types[i]) + "}");
  config["added_tokens_decoder"] = added;
  if (auto text = file.text("tokenizer.chat_template")) config["chat_template"] = *text;
  return config;
}

}  // namespace loraine
