// Definitions of tools as text. Called by encode.cpp.
#include "loraine/data/tools/tools.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "loraine/core/clock.h"
#include "loraine/core/error.h"
#include "loraine/core/python_json.h"
#include "loraine/data/tools/tool_format.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;

[[noreturn]] void refuse_tools(const std::string& what, const std::string& hint) { throw Error(ErrorKind::bad_data, what, hint); }

OrderedJson parse_json(const std::string& text, const char* what) {
  OrderedJson value = OrderedJson::parse(text, nullptr, false);
  if (value.is_discarded())
    refuse_tools(fmt::format("{}: not valid JSON: {}", what, text.substr(0, 60)), "write the list of tools or of calls as JSON text");
  return value;
}

const OrderedJson& function_of(const OrderedJson& tool) {
  const bool wrapped = tool.is_object() && tool.contains("type") && tool["type"] == "function" && tool.contains("function");
  const OrderedJson& function = wrapped ? tool["function"] : tool;
  if (!function.is_object() || !function.contains("name") || !function["name"].is_string())
    refuse_tools("tools: a tool without `name`", "each tool is an object with name, description and parameters");
  return function;
}

OrderedJson wrapped_tool(const OrderedJson& tool) {
  const OrderedJson& function = function_of(tool);
  return &function == &tool ? OrderedJson{{"type", "function"}, {"function", tool}} : tool;
}

std::string text_or_empty(const OrderedJson& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return {};
  return found->is_string() ? found->get<std::string>() : python_json(*found);
}

std::string listed_tool(const OrderedJson& function) {
  std::string arguments;
  const auto parameters = function.find("parameters");
  const bool given = parameters != function.end() && parameters->is_object() && parameters->contains("properties");
  if (!given || !(*parameters)["properties"].is_object())
    refuse_tools(fmt::format("tools: `{}` has no parameters.properties", function["name"].get<std::string>()),
                 "give the arguments as a JSON schema: {\"type\": \"object\", \"properties\": {…}}");
  const OrderedJson required = parameters->value("required", OrderedJson::array());
  for (const auto& [name, schema] : (*parameters)["properties"].items()) {
    std::string line = fmt::format("  - {} ({}", name, schema.is_object() ? text_or_empty(schema, "type") : "");
    if (std::find(required.begin(), required.end(), OrderedJson(name)) != required.end()) line += ", required";
    line += "): ";
    if (schema.is_object()) {
      line += text_or_empty(schema, "description");
      if (const auto values = schema.find("enum"); values != schema.end() && values->is_array() && !values->empty()) {
        std::vector<std::string> words;
        for (const OrderedJson& value : *values) words.push_back(value.is_string() ? value.get<std::string>() : python_json(value));
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

std::string quoted(const std::string& text) { return "<|\"|>" + text + "<|\"|>"; }

// A type, or (as Python writes a list) several, in capitals.
std::string type_text(const OrderedJson& schema) {
  const OrderedJson& type = schema["type"];
  std::string text = type.is_string() ? type.get<std::string>() : python_json(type);
  if (!type.is_string()) std::replace(text.begin(), text.end(), '"', '\'');
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(c < 128 ? std::toupper(c) : c); });
  return text;
}

bool holds(const OrderedJson& object, const char* key) {  // as Python asks: something that is not empty
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return false;
  return found->is_string() ? !found->get_ref<const std::string&>().empty() : !found->is_structured() || !found->empty();
}

const OrderedJson& object_of(const OrderedJson& value, const OrderedJson& function, const char* what) {
  if (!value.is_object())
    refuse_tools(fmt::format("tools: `{}`: {} is not an object", function["name"].get<std::string>(), what), "write it as a JSON schema");
  return value;
}

std::string declared_parameters(const OrderedJson& parameters, const OrderedJson& function) {
  std::vector<std::string> parts;
  if (holds(parameters, "properties")) {
    std::vector<std::string> properties;
    for (const auto& [name, schema] : object_of(parameters["properties"], function, "parameters.properties").items()) {
      std::vector<std::string> words;
      if (holds(object_of(schema, function, "a parameter"), "description"))
        words.push_back("description:" + quoted(text_or_empty(schema, "description")));
      if (holds(schema, "type")) words.push_back("type:" + quoted(type_text(schema)));
      properties.push_back(fmt::format("{}:{{{}}}", name, fmt::join(words, ",")));
    }
    parts.push_back(fmt::format("properties:{{{}}}", fmt::join(properties, ",")));
  }
  if (holds(parameters, "required") && parameters["required"].is_array()) {
    std::vector<std::string> required;
    for (const OrderedJson& name : parameters["required"])
      required.push_back(quoted(name.is_string() ? name.get<std::string>() : python_json(name)));
    parts.push_back(fmt::format("required:[{}]", fmt::join(required, ",")));
  }
  if (holds(parameters, "type")) parts.push_back("type:" + quoted(type_text(parameters)));
  return fmt::format("{}", fmt::join(parts, ","));
}

std::string declared_tool(const OrderedJson& function) {
  std::string text =
      fmt::format("declaration:{}{{description:{}", function["name"].get<std::string>(), quoted(text_or_empty(function, "description")));
  if (holds(function, "parameters"))
    text += fmt::format(",parameters:{{{}}}", declared_parameters(object_of(function["parameters"], function, "parameters"), function));
  if (holds(function, "response")) {
    const OrderedJson& response = object_of(function["response"], function, "response");
    std::vector<std::string> parts;
    if (holds(response, "description")) parts.push_back("description:" + quoted(text_or_empty(response, "description")));
    if (holds(response, "type") && type_text(response) == "OBJECT") parts.push_back("type:" + quoted("OBJECT"));
    text += fmt::format(",response:{{{}}}", fmt::join(parts, ","));
  }
  return text + "}";
}

std::string tool_text(ToolStyle style, const OrderedJson& tool) {
  switch (style) {
    case ToolStyle::listed: return listed_tool(function_of(tool));
    case ToolStyle::wrapped: return "\n" + python_json(wrapped_tool(tool));
    case ToolStyle::bare: return "\n" + python_json(function_of(tool));
    case ToolStyle::indented: return python_json(wrapped_tool(tool), {.indent = 4}) + "\n\n";
    case ToolStyle::titled: {
      const OrderedJson& function = function_of(tool);
      return fmt::format("\n\n## {}\n\n{}\n在调用上述函数时，请使用 OrderedJson 格式表示调用的参数。", function["name"].get<std::string>(),
                         python_json(function, {.indent = 4}));
    }
    case ToolStyle::functions_in_list: return python_json(function_of(tool));
    case ToolStyle::as_given: return python_json(tool);
    case ToolStyle::plain_lines: return python_json(function_of(tool)) + "\n";
    case ToolStyle::tool_tags: return "<tool>" + python_json(function_of(tool)) + "</tool>\n";
    case ToolStyle::declared: return declared_tool(function_of(tool));
    case ToolStyle::in_list:
    case ToolStyle::raw: break;
  }
  return python_json(wrapped_tool(tool));
}

std::string machine_date() {
  const std::tm local = written_time();
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{:02} {} {}", local.tm_mday, kMonths[local.tm_mon], local.tm_year + 1900);
}

std::string filled(std::string_view part, std::string_view name, const std::string& value) {
  std::string text(part);
  if (const size_t at = text.find(name); at != std::string::npos) text.replace(at, name.size(), value);
  return text;
}

}  // namespace

std::string tools_text(const std::string& name, const std::string& tools_json, const std::string& today) {
  const ToolFormat& format = tool_format(name);
  if (format.tools == ToolStyle::raw) return std::string(format.before) + tools_json + std::string(format.after);
  const OrderedJson tools = parse_json(tools_json, "tools");
  if (!tools.is_array()) refuse_tools("tools: not a list", "write the tools as a JSON list");
  if (tools.empty()) return {};
  std::vector<std::string> names, texts;
  for (const OrderedJson& tool : tools) {
    names.push_back(function_of(tool)["name"].get<std::string>());
    texts.push_back(tool_text(format.tools, tool));
  }
  const bool list =
      format.tools == ToolStyle::in_list || format.tools == ToolStyle::functions_in_list || format.tools == ToolStyle::as_given;
  std::string text = filled(format.before, "{date}", today.empty() ? machine_date() : today);
  if (format.tools == ToolStyle::declared) return fmt::format("{}", fmt::join(texts, "\n"));
  text += list ? fmt::format("[{}]", fmt::join(texts, ", ")) : fmt::format("{}", fmt::join(texts, ""));
  return text + filled(format.after, "{names}", fmt::format("{}", fmt::join(names, ", ")));
}

}  // namespace loraine
