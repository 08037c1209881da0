// See tool_types.h.
#include "loraine/text/calls/tool_types.h"

#include <algorithm>
#include <cmath>

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;
constexpr int kMostNesting = 64;

// The type that a schema names, looking through anyOf and the like; empty: none, or several beside null.
std::string type_in(const OrderedJson& schema, const OrderedJson& root, int depth = 0) {
  if (!schema.is_object() || depth > 8) return {};
  if (const auto ref = schema.find("$ref"); ref != schema.end() && ref->is_string()) {
    const std::string& way = ref->get_ref<const std::string&>();
    for (const char* at : {"#/$defs/", "#/definitions/"}) {
      const std::string_view prefix = at;
      if (!std::string_view(way).starts_with(prefix)) continue;
      const auto group = root.find(std::string(prefix.substr(2, prefix.size() - 3)));
      if (group == root.end() || !group->is_object() || !group->contains(way.substr(prefix.size()))) return {};
      return type_in((*group)[way.substr(prefix.size())], root, depth + 1);
    }
    return {};
  }
  std::string found;
  const auto add = [&](const std::string& name) {
    if (name == "null" || name == found) return;
    found = found.empty() ? name : "several";
  };
  if (const auto type = schema.find("type"); type != schema.end()) {
    if (type->is_string()) add(type->get<std::string>());
    if (type->is_array())
      for (const OrderedJson& name : *type)
        if (name.is_string()) add(name.get<std::string>());
    return found == "several" ? "" : found;
  }
  for (const char* key : {"anyOf", "oneOf", "allOf"}) {
    const auto list = schema.find(key);
    if (list == schema.end() || !list->is_array()) continue;
    for (const OrderedJson& each : *list) {
      const std::string name = type_in(each, root, depth + 1);
      add(name.empty() ? "several" : name);
    }
  }
  if (const auto values = schema.find("enum");
      found.empty() && values != schema.end() && values->is_array() &&
      std::all_of(values->begin(), values->end(), [](const OrderedJson& value) { return value.is_string(); }))
    return "string";
  return found == "several" ? "" : found;
}

}  // namespace

OrderedJson json_within_limits(std::string_view text) {
  int depth = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (inside && text[i] == '\\') ++i;
    else if (text[i] == '"') inside = !inside;
    else if (!inside && (text[i] == '{' || text[i] == '[') && ++depth > kMostNesting) return OrderedJson(OrderedJson::value_t::discarded);
    else if (!inside && (text[i] == '}' || text[i] == ']')) --depth;
  }
  return OrderedJson::parse(text, nullptr, false);
}

ToolTypes::ToolTypes(const OrderedJson& tools) {
  if (!tools.is_array()) return;
  for (const OrderedJson& tool : tools) {
    const OrderedJson& function = tool.is_object() && tool.contains("function") ? tool["function"] : tool;
    if (!function.is_object() || !function.contains("name") || !function["name"].is_string() || !function.contains("parameters")) continue;
    parameters_[function["name"].get<std::string>()] = function["parameters"];
  }
}

bool ToolTypes::knows(std::string_view tool, std::string_view key) const {
  const auto found = parameters_.find(std::string(tool));
  if (found == parameters_.end() || !found->is_object()) return false;
  const auto properties = found->find("properties");
  return properties != found->end() && properties->is_object() && properties->contains(std::string(key));
}

OrderedJson ToolTypes::value(std::string_view tool, std::string_view key, std::string_view text) const {
  std::string type;
  if (const auto found = parameters_.find(std::string(tool)); found != parameters_.end() && found->is_object()) {
    const auto properties = found->find("properties");
    if (properties != found->end() && properties->is_object() && properties->contains(std::string(key)))
      type = type_in((*properties)[std::string(key)], *found);
  }
  if (type == "string") return std::string(text);
  OrderedJson value = json_within_limits(text);
  if (value.is_discarded()) {
    if (type == "boolean" && (text == "True" || text == "False")) return text == "True";
    if (text == "None" && !type.empty()) return nullptr;
    return std::string(text);
  }
  if (type == "integer" && value.is_number_float()) {  // 3.0
    const double d = value.get<double>();
    if (std::floor(d) == d && std::fabs(d) < 9e15) return static_cast<int64_t>(d);
  }
  return value;
}

}  // namespace loraine
