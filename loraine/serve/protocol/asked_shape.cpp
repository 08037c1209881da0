// See asked_shape.h.
#include "loraine/serve/protocol/asked_shape.h"

#include <fmt/format.h>

#include <vector>

namespace loraine {
namespace {

using grammar::Shape;

constexpr size_t kMostStrings = 10'000, kLongestPattern = 64u << 10;

[[noreturn]] void bad_shape(const std::string& field, const WireJson& value, const std::string& expected) {
  throw ApiError{400, fmt::format("{} is {}, expected was {}", field, value.is_null() ? "missing" : shown(value), expected), field};
}

Shape schema_shape(const WireJson& schema, const std::string& field) {
  if (schema.is_string()) return {.kind = Shape::Kind::json_schema, .text = schema.get<std::string>()};
  if (!schema.is_object() && !schema.is_boolean()) bad_shape(field, schema, "a JSON schema");
  return {.kind = Shape::Kind::json_schema, .text = wire_text(schema)};
}

Shape regex_shape(const WireJson& pattern, const std::string& field) {
  if (!pattern.is_string() || pattern.get_ref<const std::string&>().empty() ||
      pattern.get_ref<const std::string&>().size() > kLongestPattern)
    bad_shape(field, pattern, fmt::format("a regular expression of 1 to {} bytes", kLongestPattern));
  return {.kind = Shape::Kind::regex, .text = pattern.get<std::string>()};
}

Shape choice_shape(const WireJson& list, const std::string& field) {
  const std::string expected = fmt::format("a list of 1 to {} strings", kMostStrings);
  if (!list.is_array() || list.empty() || list.size() > kMostStrings) bad_shape(field, list, expected);
  Shape shape{.kind = Shape::Kind::choice};
  for (const WireJson& one : list) {
    if (!one.is_string()) bad_shape(field, list, expected);
    shape.texts.push_back(one.get<std::string>());
  }
  return shape;
}

AskedShape read_structured(const WireJson& given) {
  const std::string field = "structured_outputs";
  AskedShape asked;
  for (const auto& [key, value] : given.items()) {
    if (value.is_null() || (key == "json_object" && value == false)) continue;
    const std::string place = field + "." + key;
    std::optional<Shape> shape;
    if (key == "json") shape = schema_shape(value, place);
    else if (key == "regex") shape = regex_shape(value, place);
    else if (key == "choice") shape = choice_shape(value, place);
    else if (key == "json_object" && value == true) shape = Shape{};
    else if (key == "json_object") bad_shape(place, value, "true or false");
    else if (value == false) continue;  // an option that is off
    else throw ApiError{400, place + " is not built; json, regex, choice and json_object are", place, "unsupported_parameter"};
    if (asked.shape) throw ApiError{400, fmt::format("{} has both {} and {}, one was expected", field, asked.field, place), field};
    asked = {std::move(shape), place};
  }
  if (!asked.shape) bad_shape(field, given, "an object with one of json, regex, choice, json_object");
  return asked;
}

}  // namespace

AskedShape read_format(const WireJson& format, const std::string& field, bool schema_within) {
  const std::string expected = "an object whose type is text, json_object or json_schema";
  if (!format.is_object()) bad_shape(field, format, expected);
  const WireJson type = format.value("type", WireJson());
  if (type == "text") return {};
  if (type == "json_object") {  // llama-server takes a schema here, too
    if (format.contains("schema") && !format["schema"].is_null())
      return {schema_shape(format["schema"], field + ".schema"), field + ".schema"};
    return {Shape{}, field};
  }
  if (type != "json_schema") bad_shape(field + ".type", type, "text, json_object or json_schema");
  const std::string place = schema_within ? field + ".json_schema" : field;
  const WireJson holder = schema_within ? format.value("json_schema", WireJson()) : format;
  if (!holder.is_object()) bad_shape(place, holder, "an object with name and schema");
  if (const WireJson strict = holder.value("strict", WireJson()); !strict.is_null() && !strict.is_boolean())
    bad_shape(place + ".strict", strict, "true or false");
  const WireJson schema = holder.value("schema", WireJson());
  if (!schema.is_object()) bad_shape(place + ".schema", schema, "a JSON schema");
  return {schema_shape(schema, place + ".schema"), place + ".schema"};
}

AskedShape read_shape(Fields& fields) {
  std::vector<AskedShape> asked;
  if (const WireJson* format = fields.object("response_format")) asked.push_back(read_format(*format, "response_format", true));
  if (const WireJson* given = fields.object("structured_outputs")) asked.push_back(read_structured(*given));
  if (const WireJson* given = fields.any("guided_json")) asked.push_back({schema_shape(*given, "guided_json"), "guided_json"});
  if (const WireJson* given = fields.any("guided_regex")) asked.push_back({regex_shape(*given, "guided_regex"), "guided_regex"});
  if (const WireJson* given = fields.any("guided_choice")) asked.push_back({choice_shape(*given, "guided_choice"), "guided_choice"});
  std::erase_if(asked, [](const AskedShape& one) { return !one.shape; });
  if (asked.size() > 1)
    throw ApiError{400, fmt::format("{} and {} both say what the answer is like; give one of them", asked[0].field, asked[1].field),
                   asked[1].field};
  return asked.empty() ? AskedShape{} : std::move(asked[0]);
}

}  // namespace loraine
