// See call_format.h.
#include "loraine/text/calls/call_format.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine {
namespace {

const std::vector<CallFormat>& formats() {
  static const std::vector<CallFormat> all{
      {"hermes", CallForm::tagged_json, {"<tool_call>"}, "", "", "<tool_call></tool_call>"},
      {"qwen3_coder",
       CallForm::function_tags,
       {"<tool_call>", "<function="},
       "",
       "",
       "<tool_call></tool_call><function=</function><parameter=</parameter>"},
      {"llama3_json", CallForm::llama_json, {"<|python_tag|>"}, "{", ";", "<|python_tag|>"},
      {"mistral", CallForm::mistral, {"[TOOL_CALLS]"}, "", "", "[TOOL_CALLS][ARGS][CALL_ID]"},
      {"gemma4", CallForm::gemma, {"<|tool_call>call:"}, "", "", "<|tool_call><tool_call|><|\"|>"},
      {"glm4_moe", CallForm::argument_pairs, {"<tool_call>"}, "", "", "<tool_call></tool_call><arg_key></arg_key><arg_value></arg_value>"},
      {"pythonic", CallForm::python_calls, {"<|tool_call_start|>"}, "", "", "<|tool_call_start|><|tool_call_end|>"},
      {"phi4_mini", CallForm::functools, {"functools["}, "", "", ""},
      {"deepseek_v3",
       CallForm::deepseek,
       {"<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"},
       "",
       "",
       "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜><｜tool▁sep｜><｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
      {"nemotron_v2", CallForm::toolcall_list, {"<TOOLCALL>"}, "", "", "<TOOLCALL></TOOLCALL>"},
      {"command_r", CallForm::command, {"Action:"}, "", "", ""},
      {"action", CallForm::action, {"```\nAction:", "Action:"}, "", "", ""},
      {"json", CallForm::bare_json, {}, "{[", "", ""},
  };
  return all;
}

// Names that LLaMA-Factory (tool_format) and vLLM (--tool-call-parser) have for the same forms.
struct OtherName {
  std::string_view name, ours;
};
constexpr OtherName kOtherNames[] = {{"default", "action"},
                                     {"qwen", "hermes"},
                                     {"ling", "hermes"},
                                     {"llama3", "llama3_json"},
                                     {"llama4_json", "llama3_json"},
                                     {"qwen3_5", "qwen3_coder"},
                                     {"qwen3_xml", "qwen3_coder"},
                                     {"glm45", "glm4_moe"},
                                     {"glm47", "glm4_moe"},
                                     {"lfm2", "pythonic"},
                                     {"phi4_mini_json", "phi4_mini"},
                                     {"deepseek_v31", "deepseek_v3"},
                                     {"granite", "hermes"}};

const CallFormat* find(std::string_view name) {
  const auto found = std::find_if(formats().begin(), formats().end(), [&](const CallFormat& format) { return format.name == name; });
  return found == formats().end() ? nullptr : &*found;
}

}  // namespace

std::vector<std::string> call_formats() {
  std::vector<std::string> names;
  for (const CallFormat& format : formats()) names.emplace_back(format.name);
  return names;
}

const CallFormat& call_format(std::string_view name) {
  if (const CallFormat* format = find(name)) return *format;
  for (const OtherName& other : kOtherNames)
    if (other.name == name) return *find(other.ours);
  throw Error(ErrorKind::usage, fmt::format("tool_call_parser: `{}` is not known", name),
              fmt::format("known: auto, {}", fmt::join(call_formats(), ", ")));
}

const CallFormat& call_format_of_template(std::string_view text) {
  const auto has = [&](std::string_view marker) { return text.find(marker) != std::string_view::npos; };
  if (has("<|tool_call>call:")) return *find("gemma4");
  if (has("<arg_key>")) return *find("glm4_moe");
  if (has("<function=")) return *find("qwen3_coder");
  if (has("<tool_call>") && has("arguments")) return *find("hermes");
  if (has("<TOOLCALL>")) return *find("nemotron_v2");
  if (has("[TOOL_CALLS]")) return *find("mistral");
  if (has("<|tool_call_start|>[")) return *find("pythonic");
  if (has("functools[")) return *find("phi4_mini");
  if (has("<｜tool▁call▁begin｜>")) return *find("deepseek_v3");
  if (has("<|python_tag|>") || (has("<|start_header_id|>") && has("parameters"))) return *find("llama3_json");
  if (has("Action:") && has("tool_name") && !has("<|START_ACTION|>")) return *find("command_r");
  return *find("json");
}

std::string new_call_id(const CallFormat& format, std::mt19937_64& random) {
  const bool mistral = format.form == CallForm::mistral;
  constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string id = mistral ? "" : "call_";
  for (int i = 0; i < (mistral ? 9 : 24); ++i) id += kLetters[random() % (mistral ? kLetters.size() : 16)];
  return id;
}

}  // namespace loraine
