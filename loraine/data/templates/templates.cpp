// The named chat templates as data, and what is derived from a model's own template. Called by dataset.cpp and by chat.
#include "loraine/data/templates/templates.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/data/templates/template_table.h"
#include "loraine/data/tools/tools.h"

namespace loraine {
namespace {

std::vector<Slot> slots_of(const Slots& data) {
  std::vector<Slot> slots;
  for (const SlotData& s : data)
    if (s.kind != SlotKind::none) slots.push_back({s.kind, std::string(s.text)});
  return slots;
}

// What `longer` has beyond `shorter`, character by character, as LLaMA-Factory's find_diff.
std::string inserted_text(const std::string& shorter, const std::string& longer) {
  std::string difference;
  size_t i = 0;
  for (size_t j = 0; i < shorter.size() && j < longer.size(); ++j) {
    if (shorter[i] == longer[j]) ++i;
    else difference += longer[j];
  }
  return difference;
}

std::string without(std::string text, std::string_view part) {
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at)) text.erase(at, part.size());
  return text;
}

std::string after(const std::string& text, size_t bytes) { return text.size() > bytes ? text.substr(bytes) : std::string(); }

constexpr std::string_view kMadeUpEos = "<|endoftext|>";  // where a tokenizer has none and the template brings none

// Whether rows encoded with the template hold this token.
bool writes(const Template& chat, const std::string& word) {
  for (const auto* slots : {&chat.prefix, &chat.system, &chat.user, &chat.assistant, &chat.function, &chat.observation})
    for (const Slot& slot : *slots)
      if (slot.kind == SlotKind::eos ? word == kMadeUpEos : slot.text.find(word) != std::string::npos) return true;
  return chat.efficient_eos && word == kMadeUpEos;
}

[[noreturn]] void refuse_token(const Template& chat, const std::string& word, const Tokenizer& tokenizer, int64_t rows) {
  const std::vector<std::string> fitting = fitting_templates(tokenizer);
  throw Error(
      ErrorKind::usage,
      fmt::format(
          "template {} needs {}, which this tokenizer lacks; as a new token it would have id {}, and the embedding has rows for ids "
          "below {} only",
          chat.name, word, tokenizer.vocab_size(), rows),
      fitting.empty() ? "leave template out to use the model's own, or choose one without tokens of its own, such as vicuna or alpaca"
                      : fmt::format("leave template out to use the model's own, or choose one whose tokens this tokenizer has: {}",
                                    fmt::join(fitting, ", ")));
}

// Texts such as <|im_start|> and <start_of_turn>, in the order they stand in.
void add_markers(std::vector<std::string>& markers, const std::vector<Slot>& slots) {
  for (const Slot& slot : slots)
    for (size_t at = slot.text.find('<'); at != std::string::npos; at = slot.text.find('<', at + 1)) {
      const size_t end = slot.text.find('>', at);
      if (end == std::string::npos) break;
      std::string marker = slot.text.substr(at, end + 1 - at);
      const bool prose = marker.find_first_of(" \n{", 1) != std::string::npos || marker.find('<', 1) != std::string::npos;
      const bool token = marker.starts_with("<|") || marker.find("_of_turn") != std::string::npos;
      if (token && !prose && std::ranges::find(markers, marker) == markers.end()) markers.push_back(std::move(marker));
    }
}

std::vector<std::string> markers_of(const Template& chat) {
  std::vector<std::string> markers;
  for (const auto* slots : {&chat.prefix, &chat.system, &chat.user, &chat.assistant}) {
    if (!chat.stop_words.empty()) add_markers(markers, *slots);
    for (const Slot& slot : *slots)
      if (slot.kind == SlotKind::token && std::ranges::find(markers, slot.text) == markers.end()) markers.push_back(slot.text);
  }
  return markers;
}

size_t edit_distance(std::string_view a, std::string_view b) {  // Levenshtein
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t up = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = up;
    }
  }
  return row[b.size()];
}

}  // namespace

std::vector<std::string> template_names() {
  std::vector<std::string> names;
  for (const TemplateData& row : template_table()) names.emplace_back(row.name);
  return names;
}

void refuse_tool_format(const std::string& format) {
  check_tool_format(format);
  throw Error(ErrorKind::usage,
              fmt::format("tool_format is {}, and without a named template the model's own writes tools in its own way", format),
              "name a template, or leave tool_format out");
}

void use_tool_format(Template& chat, const std::string& format) {
  check_tool_format(format);
  chat.tool_format = format;
  chat.function = {{SlotKind::text, "{{content}}"}};
  if (!chat.efficient_eos) chat.function.push_back({SlotKind::eos, ""});
}

Template named_template(const std::string& name, const std::optional<std::string>& default_system) {
  for (const TemplateData& d : template_table()) {
    if (d.name != name) continue;
    Template result;
    result.name = name;
    result.kind = d.kind;
    result.prefix = slots_of(d.prefix);
    result.system = slots_of(d.system);
    result.user = slots_of(d.user);
    result.assistant = slots_of(d.assistant);
    result.function = slots_of(d.function.front().kind == SlotKind::none ? d.assistant : d.function);
    result.observation = slots_of(d.observation.front().kind == SlotKind::none ? d.user : d.observation);
    result.tool_format = d.tool_format;
    result.default_system = default_system.value_or(std::string(d.default_system));
    for (std::string_view word : d.stop_words)
      if (!word.empty()) result.stop_words.emplace_back(word);
    result.open_thought = d.thought[0];
    result.close_thought = d.thought[1];
    result.empty_thought = (d.empty_thought_closes_only ? "" : result.open_thought) + result.close_thought;
    result.efficient_eos = d.efficient_eos;
    result.replace_eos = d.replace_eos;
    result.replaces_jinja = d.replaces_jinja;
    return result;
  }
  std::vector<std::string> names = template_names();
  constexpr size_t kNearest = 5;
  std::stable_sort(names.begin(), names.end(),
                   [&](const auto& a, const auto& b) { return edit_distance(a, name) < edit_distance(b, name); });
  const std::vector<std::string> others(names.begin() + 1, names.begin() + 1 + kNearest);
  throw Error(
      ErrorKind::usage, fmt::format("template: `{}` is not known", name),
      fmt::format(
          "did you mean `{}`? Others like it: {}; docs/templates.md lists all {}. Without a name the model's own chat template is used",
          names.front(), fmt::join(others, ", "), names.size()));
}

std::vector<std::string> missing_tokens(const Template& chat, const Tokenizer& tokenizer) {
  std::vector<std::string> markers = markers_of(chat);
  std::erase_if(markers, [&](const std::string& marker) { return tokenizer.token_to_id(marker).has_value(); });
  return markers;
}

std::vector<std::string> fitting_templates(const Tokenizer& tokenizer) {
  std::vector<std::string> names;
  for (const TemplateData& data : template_table())
    if (const Template chat = named_template(std::string(data.name)); !markers_of(chat).empty() && missing_tokens(chat, tokenizer).empty())
      names.push_back(chat.name);
  constexpr size_t kFew = 8;
  if (names.size() > kFew) names.resize(kFew);
  return names;
}

SpecialTokens read_special_tokens(const nlohmann::ordered_json& tokenizer_config, const Tokenizer& tokenizer) {
  const auto id_of = [&](const char* key) -> std::optional<int32_t> {
    if (!tokenizer_config.is_object() || !tokenizer_config.contains(key)) return std::nullopt;
    const auto& value = tokenizer_config.at(key);
    if (value.is_string()) return tokenizer.token_to_id(value.get_ref<const std::string&>());
    if (value.is_object() && value.contains("content") && value.at("content").is_string())
      return tokenizer.token_to_id(value.at("content").get_ref<const std::string&>());
    return std::nullopt;
  };
  SpecialTokens special{id_of("bos_token"), id_of("eos_token"), id_of("pad_token"), id_of("unk_token"), {}};
  if (special.eos) special.stop.push_back(*special.eos);
  return special;
}

Template derive_template(const ChatTemplate& chat_template, const Tokenizer& tokenizer, bool header_in_answers) {
  using Json = nlohmann::ordered_json;
  const std::string content = "{{content}}";
  const auto message = [](const char* role, const std::string& text) { return Json{{"role", role}, {"content", text}}; };
  const auto render = [&](std::initializer_list<Json> messages, bool generate) {
    Json list = Json::array();
    for (const Json& m : messages) list.push_back(m);
    const Json kwargs = {{"add_generation_prompt", generate}};
    return (header_in_answers ? chat_template.render(list, kwargs) : chat_template.render_turns(list, kwargs)).text;
  };
  const std::string prefix = tokenizer.decode(tokenizer.encode("", true), false);
  const std::string system_slot = after(render({message("system", content)}, false), prefix.size());
  const std::string user_after_empty_system = after(render({message("system", ""), message("user", content)}, true), prefix.size());
  std::string user_slot = after(render({message("user", content)}, true), prefix.size());
  std::string assistant_slot =
      after(render({message("user", content), message("assistant", content)}, false), prefix.size() + user_slot.size());

  Template result;
  result.name = "derived from the model's chat template";
  result.kind = assistant_slot.find("<think>") != std::string::npos ? TemplateClass::reasoning : TemplateClass::plain;
  assistant_slot = without(without(assistant_slot, "<think>"), "</think>");
  assistant_slot.erase(0, std::min(assistant_slot.find_first_not_of('\n'), assistant_slot.size()));
  if (user_slot.size() > user_after_empty_system.size()) {
    result.default_system = inserted_text(user_after_empty_system, user_slot);
    std::string sole_system = system_slot;
    if (const size_t at = sole_system.find(content); at != std::string::npos)
      sole_system.replace(at, content.size(), result.default_system);
    user_slot = after(user_slot, sole_system.size());
  }
  for (const auto& [slot, role] : std::initializer_list<std::pair<const std::string*, const char*>>{
           {&user_slot, "user"}, {&assistant_slot, "assistant"}, {&system_slot, "system"}}) {
    if (slot->find(content) == std::string::npos)
      throw Error(ErrorKind::bad_data, fmt::format("chat template: its {} part does not hold the message's text when rendered alone", role),
                  "name a template (template: llama3, qwen, …) or leave it unnamed to train on the model's own template by position");
  }
  if (!prefix.empty()) result.prefix = {{SlotKind::text, prefix}};
  result.system = {{SlotKind::text, system_slot}};
  result.user = result.observation = {{SlotKind::text, user_slot}};
  result.assistant = result.function = {{SlotKind::text, assistant_slot}};
  return result;
}

void apply_template_tokens(const Template& chat, Tokenizer& tokenizer, SpecialTokens& special, int64_t rows) {
  const auto add = [&](const std::string& word) -> std::optional<int32_t> {
    if (rows == 0 || tokenizer.token_to_id(word) || tokenizer.vocab_size() < rows) return tokenizer.add_token(word, true);
    if (writes(chat, word)) refuse_token(chat, word, tokenizer, rows);
    return std::nullopt;
  };
  auto words = chat.stop_words;
  if (chat.replace_eos && !words.empty()) {
    special.eos = add(words.front());
    words.erase(words.begin());
  }
  if (!special.eos) special.eos = add(std::string(kMadeUpEos));
  if (!special.pad) special.pad = special.eos;
  special.stop.clear();
  if (special.eos) special.stop.push_back(*special.eos);
  for (const std::string& word : words)
    if (const auto id = add(word)) special.stop.push_back(*id);
}

}  // namespace loraine
