// Calls of tools as the text that is trained. Called by encode.cpp.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/core/python_json.h"
#include "loraine/data/tools/tool_format.h"
#include "loraine/data/tools/tools.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;

[[noreturn]] void refuse(const std::string& what, const std::string& hint) { throw Error(ErrorKind::bad_data, what, hint); }

struct Call {
  std::string name;
  OrderedJson arguments;
};

// Texts as they are, anything else as JSON.
std::string argument_text(const OrderedJson& value) { return value.is_string() ? value.get<std::string>() : python_json(value); }

// A value as Gemma writes it: texts between <|"|>, keys in their order and bare.
std::string gemma_value(const OrderedJson& value) {
  if (value.is_string()) return "<|\"|>" + value.get<std::string>() + "<|\"|>";
  if (!value.is_structured()) return python_json(value);
  std::vector<std::string> items;
  if (value.is_array()) {
    for (const OrderedJson& item : value) items.push_back(gemma_value(item));
    return fmt::format("[{}]", fmt::join(items, ","));
  }
  std::map<std::string, const OrderedJson*> sorted;
  for (const auto& [key, item] : value.items()) sorted[key] = &item;
  for (const auto& [key, item] : sorted) items.push_back(key + ":" + gemma_value(*item));
  return fmt::format("{{{}}}", fmt::join(items, ","));
}

std::string call_text(CallStyle style, const Call& call) {
  const auto object = [&](const char* key) { return python_json(OrderedJson{{"name", call.name}, {key, call.arguments}}); };
  std::string text;
  switch (style) {
    case CallStyle::action: return fmt::format("Action: {}\nAction Input: {}", call.name, python_json(call.arguments));
    case CallStyle::name_first: return call.name + "\n" + python_json(call.arguments);
    case CallStyle::parameters: return object("parameters");
    case CallStyle::list:
    case CallStyle::call_lines: return object("arguments");
    case CallStyle::tagged: return "<tool_call>\n" + object("arguments") + "\n</tool_call>";
    case CallStyle::function_tags:
      text = fmt::format("<tool_call>\n<function={}>", call.name);
      for (const auto& [key, value] : call.arguments.items())
        text += fmt::format("\n<parameter={}>\n{}\n</parameter>", key, argument_text(value));
      return text + "\n</function>\n</tool_call>";
    case CallStyle::argument_pairs:
      text = "\n<tool_call>" + call.name;
      for (const auto& [key, value] : call.arguments.items())
        text += fmt::format("\n<arg_key>{}</arg_key>\n<arg_value>{}</arg_value>", key, argument_text(value));
      return text;
    case CallStyle::seed_tags:
      text = fmt::format("\n<seed:tool_call>\n<function={}", call.name);
      for (const auto& [key, value] : call.arguments.items())
        text += fmt::format("\n<parameter={}>{}</parameter>", key, argument_text(value));
      return text + "\n</function>\n</seed:tool_call>";
    case CallStyle::invoke_tags:
      text = fmt::format("<invoke name=\"{}\">", call.name);
      for (const auto& [key, value] : call.arguments.items())
        text += fmt::format("\n<parameter name=\"{}\">{}</parameter>", key, argument_text(value));
      return text + "\n</invoke>";
    case CallStyle::gemma_calls:
      text = call.arguments.is_string() ? call.arguments.get<std::string>() : gemma_value(call.arguments);
      if (call.arguments.is_object()) text = text.substr(1, text.size() - 2);
      return fmt::format("<|tool_call>call:{}{{{}}}<tool_call|>", call.name, text);
    case CallStyle::python_calls:
      for (const auto& [key, value] : call.arguments.items())
        text += fmt::format("{}{}={}", text.empty() ? "" : ", ", key,
                            value.is_string() ? '"' + value.get<std::string>() + '"' : python_json(value));
      return fmt::format("{}({})", call.name, text);
  }
  return text;
}

}  // namespace

std::string calls_text(const std::string& name, const std::string& content, const std::optional<CallWords>& words) {
  const ToolFormat& format = tool_format(name);
  std::string before, json = content;
  const auto split = [&](std::string_view open, std::string_view close, bool inner) {
    const size_t from = content.find(open);
    const size_t to = from == std::string::npos ? from : content.find(close, from + open.size());
    if (to == std::string::npos) return false;
    const std::string part = content.substr(from, to + close.size() - from);
    std::string rest = content;
    for (size_t at = rest.find(part); at != std::string::npos; at = rest.find(part, at)) rest.erase(at, part.size());
    before = inner ? rest : part;
    json = inner ? part.substr(open.size(), part.size() - open.size() - close.size()) : rest;
    return true;
  };
  const bool python = format.calls == CallStyle::python_calls;
  if (words && !split(python ? "<|tool_call_start|>" : "<tool_call>", python ? "<|tool_call_end|>" : "</tool_call>", true))
    split(words->open_thought, words->close_thought, false);
  OrderedJson calls = OrderedJson::parse(json, nullptr, false);
  if (calls.is_discarded())
    refuse(fmt::format("function call: not valid JSON: {}", json.substr(0, 60)), "write the list of tools or of calls as JSON text");
  if (!calls.is_array()) calls = OrderedJson::array({std::move(calls)});
  std::vector<std::string> texts;
  for (const OrderedJson& call : calls) {
    const bool whole = call.is_object() && call.contains("name") && call["name"].is_string() && call.contains("arguments");
    if (!whole) refuse("function call: without `name` or `arguments`", "a call is an object {\"name\": …, \"arguments\": {…}}");
    const bool pairs = format.calls == CallStyle::function_tags || format.calls == CallStyle::argument_pairs ||
                       format.calls == CallStyle::seed_tags || format.calls == CallStyle::invoke_tags || python;
    if (pairs && !call["arguments"].is_object()) refuse("function call: `arguments` is not an object", "give the arguments by name");
    texts.push_back(call_text(format.calls, {call["name"].get<std::string>(), call["arguments"]}));
  }
  if (format.calls == CallStyle::name_first && texts.size() != 1)
    refuse(fmt::format("function call: {} calls in one turn; tool format `{}` allows one", texts.size(), name), "split the turn");
  if (python) return before + fmt::format("<|tool_call_start|>[{}]<|tool_call_end|>", fmt::join(texts, ", "));
  if (format.calls == CallStyle::call_lines) return before + fmt::format("<tool_calls>\n{}\n</tool_calls>", fmt::join(texts, "\n"));
  if (format.calls == CallStyle::gemma_calls) return before + fmt::format("{}", fmt::join(texts, ""));
  const bool list = format.calls == CallStyle::list || (format.calls == CallStyle::parameters && texts.size() != 1);
  return before + (list ? fmt::format("[{}]", fmt::join(texts, ", ")) : fmt::format("{}", fmt::join(texts, "\n")));
}

}  // namespace loraine
