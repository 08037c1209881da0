// Byte-level BPE becomes "gpt2" with the name of its pre-tokenizer, SentencePiece's BPE becomes "llama" with scores.
#include "loraine/io/gguf/gguf_output_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/gguf/gguf_pre_tokenizer.h"

namespace loraine {
namespace {

enum OutputTokenType : int32_t { kIsNormal = 1, kIsUnknown = 2, kIsControl = 3, kIsUserDefined = 4, kIsUnused = 5, kIsByte = 6 };

[[noreturn]] void refuse_tokenizer(const std::string& what) {
  throw Error(ErrorKind::unsupported, "tokenizer.json " + what,
              "export with export_format: huggingface, and convert that folder with llama.cpp's convert_hf_to_gguf.py");
}

// The parts of a {"type": "Sequence"}, or the one part itself.
std::vector<Json> parts_in(const Json& part, const char* list) {
  if (!part.is_object()) return {};
  if (part.value("type", std::string()) != "Sequence") return {part};
  std::vector<Json> all;
  for (const Json& inner : part.value(list, Json::array()))
    for (const Json& each : parts_in(inner, list)) all.push_back(each);
  return all;
}

std::string type_of_part(const Json& part) { return part.value("type", std::string()); }

bool is_byte_level(const Json& tokenizer) {
  const auto has = [](const Json& part, const char* list) {
    const std::vector<Json> parts = parts_in(part, list);
    return std::any_of(parts.begin(), parts.end(), [](const Json& each) { return type_of_part(each) == "ByteLevel"; });
  };
  return has(tokenizer.value("pre_tokenizer", Json()), "pretokenizers") || has(tokenizer.value("decoder", Json()), "decoders");
}

// The name of the table whose rules are these; those that only differ in what comes first are the same here.
std::string pre_of(const Json& tokenizer) {
  std::vector<std::string> patterns;
  bool digits = false, nfc = false, by_regex = false;
  for (const Json& part : parts_in(tokenizer.value("pre_tokenizer", Json()), "pretokenizers")) {
    const std::string type = type_of_part(part);
    if (type == "Split" && part.value("pattern", Json::object()).contains("Regex") && part.value("behavior", "") == "Isolated" &&
        !part.value("invert", false))
      patterns.push_back(part["pattern"]["Regex"].get<std::string>());
    else if (type == "Digits" && part.value("individual_digits", false)) digits = true;
    else if (type == "ByteLevel" && !part.value("add_prefix_space", false)) by_regex = part.value("use_regex", true);
    else refuse_tokenizer("cuts text into words in a way that llama.cpp has no name for: " + part.dump());
  }
  for (const Json& part : parts_in(tokenizer.value("normalizer", Json()), "normalizers")) {
    if (type_of_part(part) != "NFC") refuse_tokenizer("changes text before it is cut in a way that llama.cpp does not: " + part.dump());
    nfc = true;
  }
  const bool ignore_merges = tokenizer["model"].value("ignore_merges", false);
  for (const PreTokenizer& each : pre_tokenizers()) {
    const bool same = std::equal(patterns.begin(), patterns.end(), each.patterns.begin(), each.patterns.end(),
                                 [](const std::string& a, const char* b) { return a == b; });
    if (same && each.nfc == nfc && each.ignore_merges == ignore_merges && each.digits == digits && by_regex == patterns.empty())
      return std::string(each.name);
  }
  refuse_tokenizer("cuts text into words by patterns that llama.cpp has no name for: " + (patterns.empty() ? "none" : patterns[0]));
}

// Added tokens that are special by their looks, whatever the file says.
bool looks_special(std::string_view text) {
  for (const char* each : {"<pad>", "<mask>", "<2mass>", "[@BOS@]"})
    if (text == each) return true;
  return (text.starts_with("<|") && text.ends_with("|>")) || (text.starts_with("<｜") && text.ends_with("｜>")) ||
         (text.starts_with("<unused") && text.ends_with(">"));
}

std::string with_spaces(std::string text) {
  for (size_t at = 0; (at = text.find("▁", at)) != std::string::npos;) text.replace(at, std::string_view("▁").size(), " ");
  return text;
}

struct OutputVocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::unordered_map<std::string, int32_t> ids;
};

OutputVocabulary output_vocabulary(const Json& tokenizer, int64_t rows, bool sentencepiece) {
  OutputVocabulary vocabulary;
  const auto add = [&](const std::string& token, int64_t id, int32_t type, const std::string& written) {
    if (id < 0 || id >= rows)
      throw Error(ErrorKind::bad_data,
                  fmt::format("tokenizer.json: token {} has the id {}, and the embedding has {} rows", in_quotes(token), id, rows),
                  "set resize_vocab: true, or give the tokenizer that belongs to the model");
    vocabulary.tokens[static_cast<size_t>(id)] = written;
    vocabulary.types[static_cast<size_t>(id)] = type;
    vocabulary.ids[token] = static_cast<int32_t>(id);
  };
  for (int64_t id = 0; id < rows; ++id) vocabulary.tokens.push_back(fmt::format("[PAD{}]", id));
  vocabulary.types.assign(static_cast<size_t>(rows), kIsUnused);
  const Json& model = tokenizer["model"];
  const std::string unknown = model.contains("unk_token") && model["unk_token"].is_string() ? model["unk_token"].get<std::string>() : "";
  for (const auto& [token, id] : model["vocab"].items()) {
    const bool byte = sentencepiece && token.size() == 6 && token.starts_with("<0x") && token.back() == '>';
    add(token, id.get<int64_t>(), byte ? kIsByte : sentencepiece && token == unknown ? kIsUnknown : kIsNormal, token);
  }
  for (const Json& added : tokenizer.value("added_tokens", Json::array())) {
    const auto token = added.at("content").get<std::string>();
    const bool control = added.value("special", false) || looks_special(token);
    add(token, added.at("id").get<int64_t>(), control ? kIsControl : kIsUserDefined, control ? token : with_spaces(token));
  }
  return vocabulary;
}

std::vector<std::string> written_merges_of(const Json& model) {
  std::vector<std::string> merges;
  for (const Json& merge : model.value("merges", Json::array())) {
    if (merge.is_string()) {
      merges.push_back(merge.get<std::string>());
      continue;
    }
    std::string both;
    for (const Json& part : merge) both += (both.empty() ? "" : " ") + part.get<std::string>();
    if (std::count(both.begin(), both.end(), ' ') != 1) refuse_tokenizer("has merges with spaces in them");
    merges.push_back(both);
  }
  return merges;
}

// Scores of SentencePiece's BPE: those of tokenizer.model, else the place of the first merge that makes the piece, which puts them in the
// same order.
std::vector<float> scores_of(const Json& tokenizer, const OutputVocabulary& vocabulary, const GgufTokenizerSource& source) {
  std::unordered_map<std::string, size_t> first;
  size_t place = 0;
  for (const std::string& merge : written_merges_of(tokenizer["model"])) {
    const size_t space = merge.find(' ', 1);
    first.emplace(merge.substr(0, space) + merge.substr(space + 1), place++);
  }
  std::vector<float> scores;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const int32_t type = vocabulary.types[id];
    std::optional<float> score;
    if (type == kIsNormal && source.score) score = source.score(vocabulary.tokens[id]);
    const auto merged = first.find(vocabulary.tokens[id]);
    if (score) scores.push_back(*score);
    else if (type == kIsUnused) scores.push_back(-10000);
    else if (type == kIsControl || type == kIsUserDefined) scores.push_back(-1000);
    else if (type != kIsNormal) scores.push_back(0);
    else scores.push_back(-static_cast<float>(merged != first.end() ? merged->second : place + id));
  }
  return scores;
}

std::string token_content(const Json& config, const std::string& key) {
  const Json value = config.value(key, Json());
  if (value.is_string()) return value.get<std::string>();
  return value.is_object() ? value.value("content", std::string()) : std::string();
}

struct Around {
  std::optional<bool> bos, eos;
};

// What the post-processor puts around a text.
Around around_text(const Json& tokenizer, const std::string& bos, const std::string& eos) {
  Around around;
  for (const Json& part : parts_in(tokenizer.value("post_processor", Json()), "processors")) {
    if (type_of_part(part) == "ByteLevel") {
      around.bos = around.bos.value_or(false), around.eos = around.eos.value_or(false);
    } else if (type_of_part(part) == "TemplateProcessing") {
      const Json single = part.value("single", Json::array());
      const auto special = [](const Json& item) { return item.value("SpecialToken", Json::object()).value("id", std::string()); };
      if (single.size() < 2) continue;
      const std::string first = special(single.front()), last = special(single.back());
      if ((!first.empty() && first != bos) || (!last.empty() && last != eos))
        refuse_tokenizer("puts other tokens around a text than the first and the last one");
      around.bos = !first.empty(), around.eos = !last.empty();
    }
  }
  return around;
}

void put_special_ids(GgufMetadata& metadata, const OutputVocabulary& vocabulary, const Json& tokenizer, const GgufTokenizerSource& source,
                     bool sentencepiece) {
  const Json& config = source.tokenizer_config;
  std::map<std::string, int64_t> ids;
  for (const auto& [key, name] : {std::pair{"bos", "bos"}, {"eos", "eos"}, {"unk", "unknown"}, {"pad", "padding"}}) {
    const auto named = vocabulary.ids.find(token_content(config, std::string(key) + "_token"));
    Json id = source.config.value(std::string(key) + "_token_id", Json());
    if (id.is_array() && !id.empty()) id = id[0];
    if (named != vocabulary.ids.end()) ids[name] = named->second;
    else if (id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < source.rows) ids[name] = id.get<int64_t>();
  }
  if (!ids.contains("eos") && !source.stop.empty()) ids["eos"] = source.stop[0];
  // llama.cpp stops at eos, at eot and at eom.
  std::vector<const char*> free = {"eom", "eot"};
  for (const int32_t stop : source.stop)
    if (ids.contains("eos") && stop != ids["eos"] && !free.empty()) ids[free.back()] = stop, free.pop_back();
  for (const auto& [name, id] : ids) metadata.put_unsigned("tokenizer.ggml." + name + "_token_id", static_cast<uint64_t>(id));
  const Around around = around_text(tokenizer, token_content(config, "bos_token"), token_content(config, "eos_token"));
  const auto flag = [&](const char* key) {
    const Json value = config.value(key, Json());
    return value.is_boolean() ? std::optional<bool>(value.get<bool>()) : std::nullopt;
  };
  const auto bos = around.bos ? around.bos : flag("add_bos_token"), eos = around.eos ? around.eos : flag("add_eos_token");
  metadata.put_boolean("tokenizer.ggml.add_bos_token", bos.value_or(sentencepiece) && ids.contains("bos"));
  metadata.put_boolean("tokenizer.ggml.add_eos_token", eos.value_or(false) && ids.contains("eos"));
}

bool adds_space(const Json& tokenizer) {
  for (const Json& part : parts_in(tokenizer.value("normalizer", Json()), "normalizers"))
    if (type_of_part(part) == "Prepend") return true;
  for (const Json& part : parts_in(tokenizer.value("pre_tokenizer", Json()), "pretokenizers"))
    if (type_of_part(part) == "Metaspace") return part.value("prepend_scheme", std::string("always")) != "never";
  return false;
}

void put_templates(GgufMetadata& metadata, const GgufTokenizerSource& source) {
  std::vector<std::string> names;
  for (const auto& [name, text] : source.chat_templates)
    if (name != "default") {
      names.push_back(name);
      metadata.put_text("tokenizer.chat_template." + name, text);
    }
  if (!names.empty()) metadata.put_texts("tokenizer.chat_templates", names);
  if (source.chat_template) metadata.put_text("tokenizer.chat_template", *source.chat_template);
}

}  // namespace

void put_gguf_tokenizer(GgufMetadata& metadata, const GgufTokenizerSource& source) {
  if (source.tokenizer_json.empty()) {
    metadata.put_text("tokenizer.ggml.model", "no_vocab");
    return;
  }
  Json tokenizer;
  try {
    tokenizer = Json::parse(source.tokenizer_json);
  } catch (const nlohmann::json::exception& error) { throw Error(ErrorKind::bad_data, std::string("tokenizer.json: ") + error.what()); }
  const std::string model = tokenizer.value("model", Json::object()).value("type", std::string());
  if (model != "BPE") refuse_tokenizer("is of the type " + in_quotes(model) + ", and BPE alone is written");
  const bool byte_level = is_byte_level(tokenizer);
  const bool sentencepiece = !byte_level && tokenizer["model"].value("byte_fallback", false);
  if (!byte_level && !sentencepiece) refuse_tokenizer("is neither byte-level BPE nor BPE with byte tokens");
  const OutputVocabulary vocabulary = output_vocabulary(tokenizer, source.rows, sentencepiece);
  metadata.put_text("tokenizer.ggml.model", sentencepiece ? "llama" : "gpt2");
  metadata.put_text("tokenizer.ggml.pre", sentencepiece ? "default" : pre_of(tokenizer));
  metadata.put_texts("tokenizer.ggml.tokens", vocabulary.tokens);
  if (sentencepiece) metadata.put_numbers("tokenizer.ggml.scores", scores_of(tokenizer, vocabulary, source));
  metadata.put_integers("tokenizer.ggml.token_type", vocabulary.types);
  if (sentencepiece) metadata.put_boolean("tokenizer.ggml.add_space_prefix", adds_space(tokenizer));
  else metadata.put_texts("tokenizer.ggml.merges", written_merges_of(tokenizer["model"]));
  put_special_ids(metadata, vocabulary, tokenizer, source, sentencepiece);
  put_templates(metadata, source);
}

}  // namespace loraine
