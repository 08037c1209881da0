// Tool definitions and calls as LLaMA-Factory writes them for its named templates. Called by encode.cpp. A format is one row of kFormats.
#include "loraine/data/tools.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/data/python_json.h"

namespace loraine {
namespace {

using Json = nlohmann::ordered_json;

// How one tool is put into the text.
enum class ToolStyle : uint8_t {
  listed,             // name, description and arguments as plain lines
  wrapped,            // {"type": "function", "function": …} on a line of its own
  bare,               // the function alone, on a line of its own
  indented,           // wrapped, over several lines
  titled,             // a heading with the name, then the function over several lines
  in_list,            // wrapped, all tools as one JSON list
  functions_in_list,  // the functions alone, as one JSON list
  as_given,           // all tools as they are, as one JSON list
};

enum class CallStyle : uint8_t {
  action,          // Action: name \n Action Input: arguments
  name_first,      // name \n arguments; one call only
  parameters,      // {"name", "parameters"}; several calls as a list
  list,            // a list of {"name", "arguments"}
  tagged,          // <tool_call> around {"name", "arguments"}
  function_tags,   // <function=name> with <parameter=key> blocks
  argument_pairs,  // <arg_key>, <arg_value> pairs
  seed_tags,       // <seed:tool_call> with <function=name> and <parameter=key> on lines of their own
  python_calls,    // [name(key="value", other=3)] between two tokens
};

struct ToolFormat {
  std::string_view name;
  ToolStyle tools;
  CallStyle calls;
  std::string_view before, after;  // around the tools' text; {names} and {date} are filled in
};

constexpr std::string_view kSignatures =
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
constexpr std::string_view kBlankSignatures =
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
constexpr std::string_view kTaggedCalls =
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML "
    "tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>";

constexpr ToolFormat kFormats[] = {
    {"default", ToolStyle::listed, CallStyle::action, "You have access to the following tools:\n",
     "Use the following format if using a tool:\n```\nAction: tool name (one of [{names}])\n"
     "Action Input: the input to the tool, in a JSON format representing the kwargs (e.g. ```{\"input\": \"hello world\", "
     "\"num_beams\": 5}```)\n```\n"},
    {"glm4", ToolStyle::titled, CallStyle::name_first,
     "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型开发的，"
     "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具",
     ""},
    {"glm4_moe", ToolStyle::wrapped, CallStyle::argument_pairs, kBlankSignatures,
     "\n</tools>\n\nFor each function call, output the function name and arguments within the following XML format:\n"
     "<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>\n"
     "<arg_key>{arg-key-2}</arg_key>\n<arg_value>{arg-value-2}</arg_value>\n...\n</tool_call>\n"},
    {"ling", ToolStyle::wrapped, CallStyle::tagged, kSignatures, ""},
    {"llama3", ToolStyle::indented, CallStyle::parameters,
     "Cutting Knowledge Date: December 2023\nToday Date: {date}\n\nYou have access to the following functions. To call a function, "
     "please respond with JSON for a function call. Respond in the format {\"name\": function name, \"parameters\": dictionary of "
     "argument name and its value}. Do not use variables.\n\n",
     ""},
    {"mistral", ToolStyle::in_list, CallStyle::list, "[AVAILABLE_TOOLS] ", "[/AVAILABLE_TOOLS]"},
    {"lfm2", ToolStyle::functions_in_list, CallStyle::python_calls, "List of tools: <|tool_list_start|>", "<|tool_list_end|>"},
    {"seed_oss", ToolStyle::as_given, CallStyle::seed_tags,
     "system\nYou are Doubao, a helpful AI assistant. You may call one or more functions to assist with the user query.Tool List:\n"
     "You are authorized to use the following tools (described in JSON Schema format). Before performing any task, you must decide how to "
     "call them based on the descriptions and parameters of these tools.\n",
     "\n工具调用请遵循如下格式:\n<seed:tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>value_1</parameter>\n"
     "<parameter=example_parameter_2>This is the value for the second parameter\nthat can span\nmultiple lines</parameter>\n</function>\n"
     "</seed:tool_call>\n"},
    {"qwen", ToolStyle::wrapped, CallStyle::tagged, kBlankSignatures, kTaggedCalls},
    {"qwen3_5", ToolStyle::bare, CallStyle::function_tags, "\n\n# Tools\n\nYou have access to the following functions:\n\n<tools>",
     "\n</tools>\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
     "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
     "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n</parameter>\n"
     "</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n- Function calls MUST follow the specified format: an inner "
     "<function=...></function> block must be nested within <tool_call></tool_call> XML tags\n- Required parameters MUST be specified\n"
     "- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after\n"
     "- If there is no function call available, answer the question like normal with your current knowledge and do not tell the user "
     "about function calls\n</IMPORTANT>"},
};

const ToolFormat& format_of(const std::string& name) {
  for (const ToolFormat& format : kFormats)
    if (format.name == name) return format;
  throw Error(ErrorKind::usage, fmt::format("tool_format: `{}` is not known", name),
              fmt::format("known: {}", fmt::join(tool_formats(), ", ")));
}

[[noreturn]] void refuse(const std::string& what, const std::string& hint) { throw Error(ErrorKind::bad_data, what, hint); }

Json parse_json(const std::string& text, const char* what) {
  Json value = Json::parse(text, nullptr, false);
  if (value.is_discarded())
    refuse(fmt::format("{}: not valid JSON: {}", what, text.substr(0, 60)), "write the list of tools or of calls as JSON text");
  return value;
}

const Json& function_of(const Json& tool) {
  const bool wrapped = tool.is_object() && tool.contains("type") && tool["type"] == "function" && tool.contains("function");
  const Json& function = wrapped ? tool["function"] : tool;
  if (!function.is_object() || !function.contains("name") || !function["name"].is_string())
    refuse("tools: a tool without `name`", "each tool is an object with name, description and parameters");
  return function;
}

Json wrapped_tool(const Json& tool) {
  const Json& function = function_of(tool);
  return &function == &tool ? Json{{"type", "function"}, {"function", tool}} : tool;
}

std::string text_or_empty(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return {};
  return found->is_string() ? found->get<std::string>() : python_json(*found);
}

std::string listed_tool(const Json& function) {
  std::string arguments;
  const auto parameters = function.find("parameters");
  const bool given = parameters != function.end() && parameters->is_object() && parameters->contains("properties");
  if (!given || !(*parameters)["properties"].is_object())
    refuse(fmt::format("tools: `{}` has no parameters.properties", function["name"].get<std::string>()),
           "give the arguments as a JSON schema: {\"type\": \"object\", \"properties\": {…}}");
  const Json required = parameters->value("required", Json::array());
  for (const auto& [name, schema] : (*parameters)["properties"].items()) {
    std::string line = fmt::format("  - {} ({}", name, schema.is_object() ? text_or_empty(schema, "type") : "");
    if (std::find(required.begin(), required.end(), Json(name)) != required.end()) line += ", required";
    line += "): ";
    if (schema.is_object()) {
      line += text_or_empty(schema, "description");
      if (const auto values = schema.find("enum"); values != schema.end() && values->is_array() && !values->empty()) {
        std::vector<std::string> words;
        for (const Json& value : *values) words.push_back(value.is_string() ? value.get<std::string>() : python_json(value));
        line += fmt::format(", should be one of [{}]", fmt::join(words, ", "));
      }
      if (const auto items = schema.find("items"); items != schema.end() && items->is_object() && !items->empty())
        line += ", where each item should be " + text_or_empty(*items, "type");
    }
    arguments += line + "\n";
  }
  return fmt::format("> Tool Name: {}\nTool Description: {}\nTool Args:\n{}\n", function["name"].get<std::string>(),
                     text_or_empty(function, "description"), arguments);
}

std::string tool_text(ToolStyle style, const Json& tool) {
  switch (style) {
    case ToolStyle::listed: return listed_tool(function_of(tool));
    case ToolStyle::wrapped: return "\n" + python_json(wrapped_tool(tool));
    case ToolStyle::bare: return "\n" + python_json(function_of(tool));
    case ToolStyle::indented: return python_json(wrapped_tool(tool), {.indent = 4}) + "\n\n";
    case ToolStyle::titled: {
      const Json& function = function_of(tool);
      return fmt::format("\n\n## {}\n\n{}\n在调用上述函数时，请使用 Json 格式表示调用的参数。", function["name"].get<std::string>(),
                         python_json(function, {.indent = 4}));
    }
    case ToolStyle::functions_in_list: return python_json(function_of(tool));
    case ToolStyle::as_given: return python_json(tool);
    case ToolStyle::in_list: break;
  }
  return python_json(wrapped_tool(tool));
}

std::string machine_date() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{:02} {} {}", local.tm_mday, kMonths[local.tm_mon], local.tm_year + 1900);
}

std::string filled(std::string_view part, std::string_view name, const std::string& value) {
  std::string text(part);
  if (const size_t at = text.find(name); at != std::string::npos) text.replace(at, name.size(), value);
  return text;
}

struct Call {
  std::string name;
  Json arguments;
};

// Texts as they are, anything else as JSON.
std::string argument_text(const Json& value) { return value.is_string() ? value.get<std::string>() : python_json(value); }

std::string call_text(CallStyle style, const Call& call) {
  const auto object = [&](const char* key) { return python_json(Json{{"name", call.name}, {key, call.arguments}}); };
  std::string text;
  switch (style) {
    case CallStyle::action: return fmt::format("Action: {}\nAction Input: {}", call.name, python_json(call.arguments));
    case CallStyle::name_first: return call.name + "\n" + python_json(call.arguments);
    case CallStyle::parameters: return object("parameters");
    case CallStyle::list: return object("arguments");
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
    case CallStyle::python_calls:
      for (const auto& [key, value] : call.arguments.items())
        text += fmt::format("{}{}={}", text.empty() ? "" : ", ", key,
                            value.is_string() ? '"' + value.get<std::string>() + '"' : python_json(value));
      return fmt::format("{}({})", call.name, text);
  }
  return text;
}

}  // namespace

std::vector<std::string> tool_formats() {
  std::vector<std::string> names;
  for (const ToolFormat& format : kFormats) names.emplace_back(format.name);
  return names;
}

void check_tool_format(const std::string& format) { format_of(format); }

std::string tools_text(const std::string& name, const std::string& tools_json, const std::string& today) {
  const ToolFormat& format = format_of(name);
  const Json tools = parse_json(tools_json, "tools");
  if (!tools.is_array()) refuse("tools: not a list", "write the tools as a JSON list");
  if (tools.empty()) return {};
  std::vector<std::string> names, texts;
  for (const Json& tool : tools) {
    names.push_back(function_of(tool)["name"].get<std::string>());
    texts.push_back(tool_text(format.tools, tool));
  }
  const bool list =
      format.tools == ToolStyle::in_list || format.tools == ToolStyle::functions_in_list || format.tools == ToolStyle::as_given;
  std::string text = filled(format.before, "{date}", today.empty() ? machine_date() : today);
  text += list ? fmt::format("[{}]", fmt::join(texts, ", ")) : fmt::format("{}", fmt::join(texts, ""));
  if (format.name == "ling") return text + std::string(kTaggedCalls) + "\ndetailed thinking off";
  return text + filled(format.after, "{names}", fmt::format("{}", fmt::join(names, ", ")));
}

std::string calls_text(const std::string& name, const std::string& content, const std::optional<CallWords>& words) {
  const ToolFormat& format = format_of(name);
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
  Json calls = parse_json(json, "function call");
  if (!calls.is_array()) calls = Json::array({std::move(calls)});
  std::vector<std::string> texts;
  for (const Json& call : calls) {
    const bool whole = call.is_object() && call.contains("name") && call["name"].is_string() && call.contains("arguments");
    if (!whole) refuse("function call: without `name` or `arguments`", "a call is an object {\"name\": …, \"arguments\": {…}}");
    const bool pairs = format.calls == CallStyle::function_tags || format.calls == CallStyle::argument_pairs ||
                       format.calls == CallStyle::seed_tags || python;
    if (pairs && !call["arguments"].is_object()) refuse("function call: `arguments` is not an object", "give the arguments by name");
    texts.push_back(call_text(format.calls, {call["name"].get<std::string>(), call["arguments"]}));
  }
  if (format.calls == CallStyle::name_first && texts.size() != 1)
    refuse(fmt::format("function call: {} calls in one turn; tool format `{}` allows one", texts.size(), name), "split the turn");
  if (python) return before + fmt::format("<|tool_call_start|>[{}]<|tool_call_end|>", fmt::join(texts, ", "));
  const bool list = format.calls == CallStyle::list || (format.calls == CallStyle::parameters && texts.size() != 1);
  return before + (list ? fmt::format("[{}]", fmt::join(texts, ", ")) : fmt::format("{}", fmt::join(texts, "\n")));
}

}  // namespace loraine
