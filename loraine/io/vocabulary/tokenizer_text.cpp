// See tokenizer_text.h.
#include "loraine/io/vocabulary/tokenizer_text.h"

#include <fmt/format.h>

#include "loraine/io/files/json_text.h"

namespace loraine {

// The long lists are written straight away: a Json of them would take many times the room.
std::string tokenizer_text(const TokenizerParts& parts, const Json& added_tokens) {
  std::string out = "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":" + added_tokens.dump();
  for (const auto& [key, value] : {std::pair<const char*, const Json*>{"normalizer", &parts.normalizer},
                                   {"pre_tokenizer", &parts.pre_tokenizer},
                                   {"post_processor", &parts.post_processor},
                                   {"decoder", &parts.decoder}})
    out += fmt::format(",\"{}\":", key) + value->dump();
  out += ",\"model\":" + parts.model.dump();
  out.pop_back();
  const char* comma = "";
  const auto next = [&] { out += std::exchange(comma, ","); };
  if (!parts.scores.empty()) {
    out += ",\"vocab\":[";
    for (const auto& [token, score] : parts.scores) {
      next();
      out += '[';
      append_json_string(out, token);
      out += fmt::format(",{}]", Json(score).dump());
    }
    return out + "]}}\n";
  }
  out += ",\"vocab\":{";
  for (const auto& [token, id] : parts.ids) {
    next();
    append_json_string(out, token);
    out += fmt::format(":{}", id);
  }
  out += "},\"merges\":[";
  comma = "";
  for (const auto& [left, right] : parts.merges) {
    next();
    out += '[';
    append_json_string(out, left);
    out += ',';
    append_json_string(out, right);
    out += ']';
  }
  return out + "]}}\n";
}

Json json_sequence(const char* of, Json steps) { return {{"type", "Sequence"}, {of, std::move(steps)}}; }

Json json_replace(const Json& pattern, const char* content) { return {{"type", "Replace"}, {"pattern", pattern}, {"content", content}}; }

Json json_split(const char* regex, const char* behavior) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", behavior}, {"invert", false}};
}

Json json_byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json json_tokens_around(const TokenIds& before, const TokenIds& after) {
  if (before.empty() && after.empty()) return nullptr;
  const auto around = [&](const char* sequence, int type) {
    Json items = Json::array();
    for (const auto& token : before) items.push_back({{"SpecialToken", {{"id", token.first}, {"type_id", type}}}});
    items.push_back({{"Sequence", {{"id", sequence}, {"type_id", type}}}});
    for (const auto& token : after) items.push_back({{"SpecialToken", {{"id", token.first}, {"type_id", type}}}});
    return items;
  };
  Json pair = around("A", 0), second = around("B", 1), tokens = Json::object();
  pair.insert(pair.end(), second.begin(), second.end());
  for (const TokenIds* some : {&before, &after})
    for (const auto& [token, id] : *some) tokens[token] = {{"id", token}, {"ids", Json::array({id})}, {"tokens", Json::array({token})}};
  return {{"type", "TemplateProcessing"}, {"single", around("A", 0)}, {"pair", pair}, {"special_tokens", tokens}};
}

}  // namespace loraine
