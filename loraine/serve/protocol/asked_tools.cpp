// See asked_tools.h.
#include "loraine/serve/protocol/asked_tools.h"

#include <fmt/format.h>

#include <algorithm>

namespace loraine {
namespace {

constexpr size_t kMostTools = 128;

[[noreturn]] void bad_tool(const std::string& place, const std::string& why) { throw ApiError{400, place + " " + why, place}; }

bool is_tool_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

}  // namespace

WireJson plain_function(const WireJson& function, const std::string& place, const char* parameters_key) {
  if (!function.is_object()) bad_tool(place, "is " + shown(function) + ", expected was an object with a name");
  const auto of = [&](const char* key) {
    const auto found = function.find(key);
    return found == function.end() || found->is_null() ? nullptr : &*found;
  };
  const WireJson* name = of("name");
  if (!name || !name->is_string() || !is_tool_name(name->get_ref<const std::string&>()))
    bad_tool(place + ".name",
             "is " + (name ? shown(*name) : std::string("missing")) + ", expected was a string of 1 to 64 letters, digits, _ and -");
  WireJson plain = {{"name", *name}};
  if (const WireJson* description = of("description")) {
    if (!description->is_string()) bad_tool(place + ".description", "is " + shown(*description) + ", expected was a string");
    plain["description"] = *description;
  }
  if (const WireJson* parameters = of(parameters_key)) {
    if (!parameters->is_object()) bad_tool(place + "." + parameters_key, "is " + shown(*parameters) + ", expected was a JSON schema");
    plain["parameters"] = *parameters;
  }
  if (const WireJson* strict = of("strict")) {
    if (!strict->is_boolean()) bad_tool(place + ".strict", "is " + shown(*strict) + ", expected was true or false");
    if (*strict == true) plain["strict"] = true;
  }
  return plain;
}

void add_tool(AskedTools& tools, WireJson function, const std::string& place) {
  for (const WireJson& one : tools.list)
    if (one["function"]["name"] == function["name"]) bad_tool(place + ".name", "is " + shown(function["name"]) + ", as of another tool");
  tools.list.push_back({{"type", "function"}, {"function", std::move(function)}});
}

void require_tool(AskedTools& tools, const std::string& name, const std::string& place) {
  if (std::ranges::none_of(tools.list, [&](const WireJson& tool) { return tool["function"]["name"] == name; }))
    bad_tool(place, fmt::format("names {}, and no tool is called that", shown(name)));
  tools.choice = AskedTools::Choice::required;
  tools.name = name;
}

AskedTools read_tools(Fields& fields) {
  AskedTools tools;
  if (const WireJson* list = fields.array("tools", kMostTools))
    for (size_t i = 0; i < list->size(); ++i) {
      const WireJson& tool = (*list)[i];
      const std::string place = fmt::format("tools[{}]", i);
      if (!tool.is_object() || tool.value("type", WireJson()) != "function")
        bad_tool(place, R"(is not of the type function; only {"type": "function", "function": …} is taken)");
      add_tool(tools, plain_function(tool.value("function", WireJson()), place + ".function"), place + ".function");
    }
  tools.parallel = fields.boolean("parallel_tool_calls").value_or(true);
  const WireJson* choice = fields.any("tool_choice");
  if (!choice) return tools;
  if (*choice == "none") {
    tools.choice = AskedTools::Choice::none;
    return tools;
  }
  if (tools.list.empty()) fields.fail("tool_choice", "none, since no tools are given");
  if (*choice == "required") {
    tools.choice = AskedTools::Choice::required;
  } else if (*choice != "auto") {
    const WireJson named =
        choice->is_object() && choice->value("type", WireJson()) == "function" ? choice->value("function", *choice) : WireJson();
    if (!named.is_object() || !named.contains("name") || !named["name"].is_string())
      fields.fail("tool_choice", R"(none, auto, required or {"type": "function", "function": {"name": …}})");
    require_tool(tools, named["name"].get<std::string>(), "tool_choice");
  }
  return tools;
}

}  // namespace loraine
