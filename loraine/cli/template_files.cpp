// Slots to Jinja and to Go templates.
#include "loraine/cli/template_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/files/json_file.h"

namespace loraine {
namespace {

std::string token_text(const Tokenizer& tokenizer, const std::optional<int32_t>& id) {
  return id ? tokenizer.id_to_token(*id).value_or("") : std::string();
}

constexpr std::string_view kContent = "{{content}}";

std::string jinja_text(const std::string& text) {  // a string literal
  std::string out = "'";
  for (char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

// One expression: quoted texts and `name` joined by +.
std::string jinja_slots(const std::vector<Slot>& slots, const std::string& name, const Tokenizer& tokenizer, const SpecialTokens& special) {
  std::vector<std::string> parts;
  auto quoted = [&](const std::string& text) {
    if (!text.empty()) parts.push_back(jinja_text(text));
  };
  for (const Slot& slot : slots) {
    if (slot.kind == SlotKind::bos) quoted(token_text(tokenizer, special.bos));
    if (slot.kind == SlotKind::eos) quoted(token_text(tokenizer, special.eos));
    if (slot.kind == SlotKind::token) quoted(slot.text);
    if (slot.kind != SlotKind::text) continue;
    const size_t at = slot.text.find(kContent);
    quoted(slot.text.substr(0, at));
    if (at == std::string::npos) continue;
    parts.push_back(name);
    quoted(slot.text.substr(at + kContent.size()));
  }
  return fmt::format("{}", fmt::join(parts, " + "));
}

std::string ollama_slots(const std::vector<Slot>& slots, const std::string& name, const Tokenizer& tokenizer,
                         const SpecialTokens& special) {
  std::string out;
  for (const Slot& slot : slots) {
    if (slot.kind == SlotKind::bos) out += token_text(tokenizer, special.bos);
    if (slot.kind == SlotKind::eos) out += token_text(tokenizer, special.eos);
    if (slot.kind == SlotKind::token) out += slot.text;
    if (slot.kind != SlotKind::text) continue;
    std::string text = slot.text;
    if (const size_t at = text.find(kContent); at != std::string::npos) text.replace(at, kContent.size(), "{{ " + name + " }}");
    out += text;
  }
  return out;
}

// eos, pad and the tokens that end an answer, under the names transformers gives them. What says so already stays as it is written.
void name_special_tokens(Json& names, const Tokenizer& tokenizer, const SpecialTokens& special) {
  const auto content = [](const Json& token) { return token.is_object() ? token.value("content", Json()) : token; };
  for (const auto& [key, id] : {std::pair{"eos_token", special.eos}, {"pad_token", special.pad}})
    if (const std::string text = token_text(tokenizer, id); id && content(names.value(key, Json())) != text) names[key] = text;
  const bool newer = names.contains("extra_special_tokens") && names["extra_special_tokens"].is_array();
  for (int32_t id : special.stop) {
    if (id == special.eos) continue;
    Json& others = names[newer ? "extra_special_tokens" : "additional_special_tokens"];
    if (!others.is_array()) others = Json::array();
    const std::string text = token_text(tokenizer, id);
    if (std::none_of(others.begin(), others.end(), [&](const Json& other) { return content(other) == text; })) others.push_back(text);
  }
}

void decode_new_token(Json& tokens, const NewToken& token) {  // added_tokens_decoder of tokenizer_config.json
  Json& entry = tokens[std::to_string(token.id)];
  if (!entry.is_object())
    entry = {{"content", token.content}, {"single_word", false}, {"lstrip", false}, {"rstrip", false}, {"normalized", !token.special}};
  entry["special"] = token.special || entry.value("special", false);
}

}  // namespace

std::string jinja_of_template(const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special) {
  auto slots = [&](const std::vector<Slot>& list, const char* name) { return jinja_slots(list, name, tokenizer, special); };
  std::string out;
  if (const std::string prefix = slots(chat.prefix, "content"); !prefix.empty()) out += "{{ " + prefix + " }}";
  if (!chat.default_system.empty()) out += "{% set system_message = " + jinja_text(chat.default_system) + " %}";
  out +=
      "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
      "{% else %}{% set loop_messages = messages %}{% endif %}";
  const std::string system = slots(chat.system, "system_message");
  const bool inside = chat.kind == TemplateClass::llama2;  // the system text goes into the first turn
  if (!inside) out += "{% if system_message is defined %}{{ " + system + " }}{% endif %}";
  out += "{% for message in loop_messages %}";
  if (inside)
    out += "{% if loop.index0 == 0 and system_message is defined %}{% set content = " + system + " + message['content'] %}{% else %}";
  out += "{% set content = message['content'] %}";
  if (inside) out += "{% endif %}";
  out += "{% if message['role'] == 'user' %}{{ " + slots(chat.user, "content");
  out += " }}{% elif message['role'] == 'assistant' %}{{ " + slots(chat.assistant, "content");
  return out + " }}{% endif %}{% endfor %}";
}

std::string modelfile_of_template(const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special) {
  auto slots = [&](const std::vector<Slot>& list, const char* name) { return ollama_slots(list, name, tokenizer, special); };
  std::string out = "# ollama modelfile auto-generated by loraine\n\nFROM .\n\nTEMPLATE \"\"\"";
  out += slots(chat.prefix, ".Content") + "{{ if .System }}" + slots(chat.system, ".System") + "{{ end }}";
  out += "{{ range .Messages }}{{ if eq .Role \"user\" }}" + slots(chat.user, ".Content");
  out += "{{ else if eq .Role \"assistant\" }}" + slots(chat.assistant, ".Content") + "{{ end }}{{ end }}\"\"\"\n\n";
  if (!chat.default_system.empty()) out += "SYSTEM \"\"\"" + chat.default_system + "\"\"\"\n\n";
  const std::set<int32_t> stop(special.stop.begin(), special.stop.end());
  for (int32_t id : stop) out += fmt::format("PARAMETER stop \"{}\"\n", token_text(tokenizer, id));
  return out + "PARAMETER num_ctx 4096\n";
}

void write_special_tokens(ModelFiles& files, const Tokenizer& tokenizer, const SpecialTokens& special) {
  if (files.tokenizer_json) files.tokenizer_json = with_new_tokens(*files.tokenizer_json, tokenizer.new_tokens());
  if (!files.tokenizer_config) files.tokenizer_config = Json::object();
  name_special_tokens(*files.tokenizer_config, tokenizer, special);
  if (files.tokenizer_config->contains("added_tokens_decoder"))
    for (const NewToken& token : tokenizer.new_tokens()) decode_new_token((*files.tokenizer_config)["added_tokens_decoder"], token);
  for (NamedText& file : files.tokenizer_files) {
    if (file.name != "special_tokens_map.json" && file.name != "added_tokens.json") continue;
    const Json old = parse_json_file(files.path + "/" + file.name);
    if (!old.is_object()) throw Error(ErrorKind::bad_data, files.path + "/" + file.name + ": expected a JSON object");
    Json now = old;
    if (file.name == "special_tokens_map.json") name_special_tokens(now, tokenizer, special);
    else
      for (const NewToken& token : tokenizer.new_tokens()) now[token.content] = token.id;
    if (now != old) file.text = now.dump(2) + "\n";
  }
}

void apply_template_to_files(ModelFiles& files, const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special,
                             const std::string& padding_side) {
  write_special_tokens(files, tokenizer, special);
  Json& config = *files.tokenizer_config;
  config["padding_side"] = padding_side;
  config["split_special_tokens"] = false;
  if (files.chat_template && !chat.replaces_jinja) return;
  files.chat_template = jinja_of_template(chat, tokenizer, special);
  if (chat.replaces_jinja) files.chat_templates.clear();
  else if (!files.chat_templates.empty()) files.chat_templates.push_back({"default", *files.chat_template});
}

void align_special_tokens(ModelFiles& files, const SpecialTokens& special) {
  const std::pair<const char*, std::optional<int32_t>> tokens[] = {
      {"bos_token_id", special.bos}, {"eos_token_id", special.eos}, {"pad_token_id", special.pad}};
  for (const auto& [key, id] : tokens) {
    if (!id) continue;
    files.config[key] = *id;
    if (!files.generation_config) continue;
    const Json old = files.generation_config->value(key, Json());
    Json ids = *id;
    if (std::string(key) == "eos_token_id" && !old.is_null()) {  // a list from now on
      ids = Json::array({*id});
      for (const Json& other : old.is_array() ? old : Json::array({old}))
        if (other != *id) ids.push_back(other);
    }
    (*files.generation_config)[key] = ids;
  }
}

}  // namespace loraine
