// The named chat templates as data, and what is derived from a model's own template. Called by dataset.cpp and by chat.
#include "loraine/data/templates.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"

namespace loraine {
namespace {

struct SlotData {
  SlotKind kind = SlotKind::none;
  std::string_view text = {};
};
using Slots = std::array<SlotData, 3>;
constexpr SlotData t(std::string_view text) { return {SlotKind::text, text}; }
constexpr SlotData kBos = {SlotKind::bos}, kEos = {SlotKind::eos};

struct TemplateData {
  std::string_view name;
  TemplateClass kind = TemplateClass::plain;
  Slots prefix = {}, system = {}, user = {}, assistant = {}, function = {}, observation = {};
  std::string_view tool_format = "default";
  std::string_view default_system = {};
  std::array<std::string_view, 2> stop_words = {};
  bool efficient_eos = false, replace_eos = false;
};

// clang-format off
// The ChatML family shares these.
constexpr SlotData kImSystem = t("<|im_start|>system\n{{content}}<|im_end|>\n");
constexpr SlotData kImUser = t("<|im_start|>user\n{{content}}<|im_end|>\n<|im_start|>assistant\n");
constexpr SlotData kImAssistant = t("{{content}}<|im_end|>\n");
constexpr SlotData kImToolResponse = t("<|im_start|>user\n<tool_response>\n{{content}}\n</tool_response><|im_end|>\n<|im_start|>assistant\n");

// function left out: as assistant; observation left out: as user.
constexpr TemplateData kTemplates[] = {
    {.name = "alpaca",
     .system = {{t("{{content}}")}},
     .user = {{t("### Instruction:\n{{content}}\n\n### Response:\n")}},
     .assistant = {{t("{{content}}"), kEos, t("\n\n")}},
     .default_system = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"},
    {.name = "chatml",
     .system = {{kImSystem}},
     .user = {{kImUser}},
     .assistant = {{kImAssistant}},
     .observation = {{t("<|im_start|>tool\n{{content}}<|im_end|>\n<|im_start|>assistant\n")}},
     .stop_words = {"<|im_end|>", "<|im_start|>"},
     .replace_eos = true},
    {.name = "default",
     .system = {{t("System: {{content}}"), kEos, t("\n")}},
     .user = {{t("Human: {{content}}"), kEos, t("\nAssistant:")}},
     .assistant = {{t("{{content}}"), kEos, t("\n")}}},
    {.name = "empty",
     .system = {{t("{{content}}")}},
     .user = {{t("{{content}}")}},
     .assistant = {{t("{{content}}")}}},
    {.name = "gemma",
     .kind = TemplateClass::llama2,
     .prefix = {{kBos}},
     .system = {{t("{{content}}\n\n")}},
     .user = {{t("<start_of_turn>user\n{{content}}<end_of_turn>\n<start_of_turn>model\n")}},
     .assistant = {{t("{{content}}<end_of_turn>\n")}},
     .observation = {{t("<start_of_turn>tool\n{{content}}<end_of_turn>\n<start_of_turn>model\n")}},
     .stop_words = {"<end_of_turn>"},
     .replace_eos = true},
    {.name = "llama2",
     .kind = TemplateClass::llama2,
     .system = {{t("<<SYS>>\n{{content}}\n<</SYS>>\n\n")}},
     .user = {{kBos, t("[INST] {{content}} [/INST]")}},
     .assistant = {{t("{{content}}"), kEos}}},
    {.name = "llama3",
     .prefix = {{kBos}},
     .system = {{t("<|start_header_id|>system<|end_header_id|>\n\n{{content}}<|eot_id|>")}},
     .user = {{t("<|start_header_id|>user<|end_header_id|>\n\n{{content}}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")}},
     .assistant = {{t("{{content}}<|eot_id|>")}},
     .observation = {{t("<|start_header_id|>ipython<|end_header_id|>\n\n{{content}}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")}},
     .tool_format = "llama3",
     .stop_words = {"<|eot_id|>", "<|eom_id|>"},
     .replace_eos = true},
    {.name = "mistral",
     .kind = TemplateClass::llama2,
     .prefix = {{kBos}},
     .system = {{t("{{content}}\n\n")}},
     .user = {{t("[INST] {{content}}[/INST]")}},
     .assistant = {{t(" {{content}}"), kEos}},
     .function = {{t("[TOOL_CALLS] {{content}}"), kEos}},
     .observation = {{t("[TOOL_RESULTS] {\"content\": {{content}}}[/TOOL_RESULTS]")}},
     .tool_format = "mistral"},
    {.name = "qwen",
     .system = {{kImSystem}},
     .user = {{kImUser}},
     .assistant = {{kImAssistant}},
     .observation = {{kImToolResponse}},
     .tool_format = "qwen",
     .default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
     .stop_words = {"<|im_end|>"},
     .replace_eos = true},
    {.name = "qwen3",
     .kind = TemplateClass::reasoning,
     .system = {{kImSystem}},
     .user = {{kImUser}},
     .assistant = {{kImAssistant}},
     .observation = {{kImToolResponse}},
     .tool_format = "qwen",
     .stop_words = {"<|im_end|>"},
     .replace_eos = true},
    {.name = "qwen3_nothink",
     .system = {{kImSystem}},
     .user = {{kImUser}},
     .assistant = {{kImAssistant}},
     .observation = {{kImToolResponse}},
     .tool_format = "qwen",
     .stop_words = {"<|im_end|>"},
     .replace_eos = true},
    {.name = "smollm2",
     .system = {{kImSystem}},
     .user = {{kImUser}},
     .assistant = {{kImAssistant}},
     .default_system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face.",
     .stop_words = {"<|im_end|>"}},
    {.name = "vicuna",
     .system = {{t("{{content}}")}},
     .user = {{t("USER: {{content}} ASSISTANT:")}},
     .assistant = {{t("{{content}}"), kEos}},
     .default_system = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions."},
    {.name = "zephyr",
     .system = {{t("<|system|>\n{{content}}"), kEos}},
     .user = {{t("<|user|>\n{{content}}"), kEos, t("<|assistant|>\n")}},
     .assistant = {{t("{{content}}"), kEos}},
     .default_system = "You are Zephyr, a helpful assistant."},
};
// clang-format on

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
  for (const TemplateData& t : kTemplates) names.emplace_back(t.name);
  return names;
}

Template named_template(const std::string& name, const std::optional<std::string>& default_system) {
  for (const TemplateData& d : kTemplates) {
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
    result.efficient_eos = d.efficient_eos;
    result.replace_eos = d.replace_eos;
    return result;
  }
  const auto names = template_names();
  const auto nearest = *std::min_element(names.begin(), names.end(),
                                         [&](const auto& a, const auto& b) { return edit_distance(a, name) < edit_distance(b, name); });
  throw Error(
      ErrorKind::usage, fmt::format("template: `{}` is not known", name),
      fmt::format("did you mean `{}`? known: {}; without a name the model's own chat template is used", nearest, fmt::join(names, ", ")));
}

std::vector<std::string> missing_tokens(const Template& chat, const Tokenizer& tokenizer) {
  if (chat.stop_words.empty()) return {};
  std::vector<std::string> markers;
  for (const auto* slots : {&chat.prefix, &chat.system, &chat.user, &chat.assistant}) add_markers(markers, *slots);
  std::erase_if(markers, [&](const std::string& marker) { return tokenizer.token_to_id(marker).has_value(); });
  return markers;
}

std::vector<std::string> fitting_templates(const Tokenizer& tokenizer) {
  std::vector<std::string> names;
  for (const TemplateData& data : kTemplates)
    if (const Template chat = named_template(std::string(data.name)); !chat.stop_words.empty() && missing_tokens(chat, tokenizer).empty())
      names.push_back(chat.name);
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
  SpecialTokens special{id_of("bos_token"), id_of("eos_token"), id_of("pad_token"), {}};
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
