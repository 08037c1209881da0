// Facts: JSON Schema 2020-12, core and validation.
#include "loraine/rollouts/checks/schema_validator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "loraine/core/error.h"

namespace loraine {
namespace {

using SchemaJson = nlohmann::json;
constexpr int kDeepest = 256;  // schemas within schemas, values within values

const std::set<std::string> kTypeNames = {"null", "boolean", "object", "array", "number", "integer", "string"};
const std::set<std::string> kIgnored = {"title",  "description",      "default",         "examples",  "$schema",
                                        "$id",    "$comment",         "readOnly",        "writeOnly", "deprecated",
                                        "format", "contentMediaType", "contentEncoding", "$anchor"};
const std::set<std::string> kOneSchema = {"additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else"};
const std::set<std::string> kListOfSchemas = {"allOf", "anyOf", "oneOf", "prefixItems"};
const std::set<std::string> kMapOfSchemas = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"};
const std::set<std::string> kCounts = {"minProperties", "maxProperties", "minItems",  "maxItems",
                                       "minContains",   "maxContains",   "minLength", "maxLength"};
const std::set<std::string> kNumbers = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"};

bool is_whole(const SchemaJson& value) {
  if (value.is_number_integer()) return true;
  return value.is_number() && value.get<double>() == std::floor(value.get<double>());
}

bool has_type(const SchemaJson& value, const std::string& type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  return type == "integer" ? is_whole(value) : value.is_number();
}

size_t characters_of(const std::string& text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

// Whether a count lies between the schema's bounds of these names.
bool counts_fit(const SchemaJson& schema, const char* least, const char* most, size_t n) {
  const auto count = static_cast<double>(n);
  return !(schema.contains(least) && count < schema[least].get<double>()) && !(schema.contains(most) && count > schema[most].get<double>());
}

}  // namespace

SchemaValidator::SchemaValidator(SchemaJson schema, const std::string& place) : schema_(std::move(schema)), place_(place) {
  prepare(schema_, "#", 0);
}

const SchemaJson& SchemaValidator::target(const std::string& reference, const std::string& path) const {
  const Error error(ErrorKind::usage, fmt::format("{}: {}/$ref is '{}', which leads to nothing in the schema", place_, path, reference),
                    "refer to a schema of the same file: #/$defs/NAME");
  if (!reference.starts_with('#')) throw error;
  try {
    return schema_.at(SchemaJson::json_pointer(reference.substr(1)));
  } catch (const SchemaJson::exception&) { throw error; }
}

void SchemaValidator::prepare(const SchemaJson& schema, const std::string& path, int depth) {
  const auto wrong = [&](const std::string& at, const std::string& expected) {
    throw Error(ErrorKind::usage, fmt::format("{}: {} in the schema is no {}", place_, at, expected));
  };
  if (depth > kDeepest) wrong(path, "schema nested less than 256 levels");
  if (schema.is_boolean()) return;
  if (!schema.is_object()) wrong(path, "schema: an object, true or false");
  const auto add_pattern = [&](const std::string& pattern, const std::string& at) {
    if (!patterns_.contains(pattern)) patterns_.emplace(pattern, CheckPattern(pattern, false, false, fmt::format("{}: {}", place_, at)));
  };
  for (const auto& [key, value] : schema.items()) {
    const std::string at = path + "/" + key;
    if (kIgnored.contains(key)) continue;
    if (kOneSchema.contains(key)) {
      prepare(value, at, depth + 1);
    } else if (kListOfSchemas.contains(key)) {
      if (!value.is_array() || value.empty()) wrong(at, "list of schemas");
      for (size_t i = 0; i < value.size(); ++i) prepare(value[i], fmt::format("{}/{}", at, i), depth + 1);
    } else if (kMapOfSchemas.contains(key)) {
      if (!value.is_object()) wrong(at, "map of schemas");
      for (const auto& [name, one] : value.items()) {
        if (key == "patternProperties") add_pattern(name, at);
        prepare(one, at + "/" + name, depth + 1);
      }
    } else if (kCounts.contains(key)) {
      if (!is_whole(value) || value.get<double>() < 0) wrong(at, "whole number of 0 or more");
    } else if (kNumbers.contains(key)) {
      if (!value.is_number() || (key == "multipleOf" && value.get<double>() <= 0)) wrong(at, "number, above 0 for multipleOf");
    } else if (key == "type") {
      for (const SchemaJson& type : value.is_array() ? value : SchemaJson::array({value}))
        if (!type.is_string() || !kTypeNames.contains(type.get<std::string>())) wrong(at, "type of JSON");
    } else if (key == "enum") {
      if (!value.is_array()) wrong(at, "list");
    } else if (key == "required") {
      if (!value.is_array() || !std::all_of(value.begin(), value.end(), [](const SchemaJson& name) { return name.is_string(); }))
        wrong(at, "list of names");
    } else if (key == "dependentRequired") {
      if (!value.is_object()) wrong(at, "map of lists of names");
    } else if (key == "uniqueItems") {
      if (!value.is_boolean()) wrong(at, "true or false");
    } else if (key == "pattern") {
      if (!value.is_string()) wrong(at, "text");
      add_pattern(value.get<std::string>(), at);
    } else if (key == "$ref") {
      if (!value.is_string()) wrong(at, "text");
      target(value.get<std::string>(), path);
    } else if (key != "const") {
      throw Error(ErrorKind::usage, fmt::format("{}: {} in the schema is a word that is not known, or not checked", place_, at),
                  "leave it out, or check it with a command");
    }
  }
}

bool SchemaValidator::fits_number(const SchemaJson& schema, const SchemaJson& value) const {
  const auto x = value.get<double>();
  const auto bound = [&](const char* name) { return schema.contains(name) ? std::optional(schema[name].get<double>()) : std::nullopt; };
  if (const auto least = bound("minimum"); least && x < *least) return false;
  if (const auto most = bound("maximum"); most && x > *most) return false;
  if (const auto below = bound("exclusiveMinimum"); below && x <= *below) return false;
  if (const auto above = bound("exclusiveMaximum"); above && x >= *above) return false;
  const auto step = bound("multipleOf");
  return !step || std::abs(x / *step - std::round(x / *step)) <= 1e-9 * std::max(1.0, std::abs(x / *step));
}

bool SchemaValidator::fits_text(const SchemaJson& schema, const std::string& text) const {
  if (!counts_fit(schema, "minLength", "maxLength", characters_of(text))) return false;
  return !schema.contains("pattern") || matches(schema["pattern"].get<std::string>(), text);
}

bool SchemaValidator::fits_list(const SchemaJson& schema, const SchemaJson& value, int depth) const {
  if (!counts_fit(schema, "minItems", "maxItems", value.size())) return false;
  size_t first = 0;
  if (schema.contains("prefixItems"))
    for (const SchemaJson& prefix = schema["prefixItems"]; first < std::min(prefix.size(), value.size()); ++first)
      if (!fits(prefix[first], value[first], depth)) return false;
  if (schema.contains("items"))
    for (size_t i = first; i < value.size(); ++i)
      if (!fits(schema["items"], value[i], depth)) return false;
  if (schema.contains("contains")) {
    const auto found = static_cast<double>(
        std::count_if(value.begin(), value.end(), [&](const SchemaJson& item) { return fits(schema["contains"], item, depth); }));
    if (found < schema.value("minContains", 1.0) || (schema.contains("maxContains") && found > schema["maxContains"].get<double>()))
      return false;
  }
  if (schema.value("uniqueItems", false))
    for (size_t i = 0; i < value.size(); ++i)
      for (size_t k = i + 1; k < value.size(); ++k)
        if (value[i] == value[k]) return false;
  return true;
}

bool SchemaValidator::fits_object(const SchemaJson& schema, const SchemaJson& value, int depth) const {
  if (!counts_fit(schema, "minProperties", "maxProperties", value.size())) return false;
  if (schema.contains("required"))
    for (const SchemaJson& name : schema["required"])
      if (!value.contains(name.get<std::string>())) return false;
  for (const auto& [name, item] : value.items()) {
    bool known = false;
    if (schema.contains("propertyNames") && !fits(schema["propertyNames"], SchemaJson(name), depth)) return false;
    if (schema.contains("properties") && schema["properties"].contains(name)) {
      known = true;
      if (!fits(schema["properties"][name], item, depth)) return false;
    }
    if (schema.contains("patternProperties"))
      for (const auto& [pattern, one] : schema["patternProperties"].items())
        if (matches(pattern, name)) {
          known = true;
          if (!fits(one, item, depth)) return false;
        }
    if (!known && schema.contains("additionalProperties") && !fits(schema["additionalProperties"], item, depth)) return false;
  }
  if (schema.contains("dependentRequired"))
    for (const auto& [name, others] : schema["dependentRequired"].items())
      for (const SchemaJson& other : others)
        if (value.contains(name) && !(other.is_string() && value.contains(other.get<std::string>()))) return false;
  if (schema.contains("dependentSchemas"))
    for (const auto& [name, one] : schema["dependentSchemas"].items())
      if (value.contains(name) && !fits(one, value, depth)) return false;
  return true;
}

bool SchemaValidator::fits_combined(const SchemaJson& schema, const SchemaJson& value, int depth) const {
  const auto count = [&](const char* key) {
    return std::count_if(schema[key].begin(), schema[key].end(), [&](const SchemaJson& one) { return fits(one, value, depth); });
  };
  if (schema.contains("allOf") && count("allOf") != static_cast<ptrdiff_t>(schema["allOf"].size())) return false;
  if (schema.contains("anyOf") && count("anyOf") == 0) return false;
  if (schema.contains("oneOf") && count("oneOf") != 1) return false;
  if (schema.contains("not") && fits(schema["not"], value, depth)) return false;
  if (schema.contains("if")) {
    const char* branch = fits(schema["if"], value, depth) ? "then" : "else";
    if (schema.contains(branch) && !fits(schema[branch], value, depth)) return false;
  }
  return !schema.contains("$ref") || fits(target(schema["$ref"].get<std::string>(), "#"), value, depth);
}

bool SchemaValidator::fits(const SchemaJson& schema, const SchemaJson& value, int depth) const {
  if (schema.is_boolean()) return schema.get<bool>();
  if (++depth > kDeepest)
    throw Error(ErrorKind::usage,
                fmt::format("{}: the schema refers to itself without an end, or an answer is nested deeper than 256 levels", place_),
                "let every reference go through a property or an item");
  if (schema.contains("type")) {
    const SchemaJson& types = schema["type"];
    const bool any = types.is_array() ? std::any_of(types.begin(), types.end(),
                                                    [&](const SchemaJson& type) { return has_type(value, type.get<std::string>()); })
                                      : has_type(value, types.get<std::string>());
    if (!any) return false;
  }
  if (schema.contains("const") && value != schema["const"]) return false;
  if (schema.contains("enum") && std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end()) return false;
  if (value.is_number() && !fits_number(schema, value)) return false;
  if (value.is_string() && !fits_text(schema, value.get_ref<const std::string&>())) return false;
  if (value.is_array() && !fits_list(schema, value, depth)) return false;
  if (value.is_object() && !fits_object(schema, value, depth)) return false;
  return fits_combined(schema, value, depth);
}

}  // namespace loraine
