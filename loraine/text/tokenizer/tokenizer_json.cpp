// See tokenizer_json.h.
#include "loraine/text/tokenizer/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>

namespace loraine::tokens {

void fail(const Place& place, const std::string& message) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: {}{}{}", place.file, place.at, place.at.empty() ? "" : ": ", message),
              "Is this the model's own tokenizer.json, completely downloaded?");
}

void fail_unknown(const Place& place, const std::string& what, std::string_view name) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: {}: {} \"{}\" is not known", place.file, place.at, what, name.substr(0, 100)),
              "This tokenizer needs a feature that is not implemented; encoding without it would give other tokens.");
}

JsonObject as_object(const Json& value, const Place& place) {
  if (place.depth > kMaxDepth) fail(place, fmt::format("nested deeper than {} levels", kMaxDepth));
  JsonObject object;
  if (value.get_object().get(object)) fail(place, "is not an object");
  return object;
}

void check_keys(const JsonObject& object, std::initializer_list<std::string_view> known, const Place& place) {
  for (auto field : object)
    if (std::find(known.begin(), known.end(), field.key) == known.end()) fail_unknown(place, "key", field.key);
}

bool has(const JsonObject& object, std::string_view key) {
  Json value;
  return !object.at_key(key).get(value) && !value.is_null();
}

Json get(const JsonObject& object, std::string_view key, const Place& place) {
  Json value;
  if (object.at_key(key).get(value)) fail(place, fmt::format("has no \"{}\"", key));
  return value;
}

std::string get_string(const JsonObject& object, std::string_view key, const Place& place) {
  std::string_view text;
  if (get(object, key, place).get_string().get(text)) fail(place, fmt::format("\"{}\" is not a string", key));
  return std::string(text);
}

std::string get_string_or(const JsonObject& object, std::string_view key, const std::string& otherwise, const Place& place) {
  return has(object, key) ? get_string(object, key, place) : otherwise;
}

bool get_bool_or(const JsonObject& object, std::string_view key, bool otherwise, const Place& place) {
  if (!has(object, key)) return otherwise;
  bool value = false;
  if (get(object, key, place).get_bool().get(value)) fail(place, fmt::format("\"{}\" is not true or false", key));
  return value;
}

int64_t get_int(const JsonObject& object, std::string_view key, int64_t low, int64_t high, const Place& place) {
  int64_t value = 0;
  if (get(object, key, place).get_int64().get(value)) fail(place, fmt::format("\"{}\" is not an integer", key));
  if (value < low || value > high) fail(place, fmt::format("\"{}\" is {}, expected {} to {}", key, value, low, high));
  return value;
}

simdjson::dom::array get_array(const JsonObject& object, std::string_view key, const Place& place) {
  simdjson::dom::array array;
  if (get(object, key, place).get_array().get(array)) fail(place, fmt::format("\"{}\" is not a list", key));
  return array;
}

}  // namespace loraine::tokens
