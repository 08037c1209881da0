// See method_keys.h.
#include "loraine/adapters/peft_methods/method_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace loraine {

const nlohmann::ordered_json* MethodKeys::find(const char* key) {
  known_.emplace_back(key);
  const auto at = json_.find(key);
  return at == json_.end() || at->is_null() ? nullptr : &*at;
}

bool MethodKeys::has(const char* key) const {
  const auto at = json_.find(key);
  return at != json_.end() && !at->is_null();
}

void MethodKeys::wrong(const char* key, const std::string& expected) const {
  const auto at = json_.find(key);
  throw Error(kind_,
              fmt::format("{}: {} is {}, expected {}", where_, key, at == json_.end() ? "not given" : at->dump().substr(0, 80), expected));
}

int64_t MethodKeys::integer(const char* key, int64_t otherwise, int64_t lowest, int64_t highest) {
  const auto* value = find(key);
  if (!value) return otherwise;
  if (!value->is_number_integer() || value->get<int64_t>() < lowest || value->get<int64_t>() > highest)
    wrong(key, fmt::format("an integer from {} to {}", lowest, highest));
  return value->get<int64_t>();
}

double MethodKeys::number(const char* key, double otherwise, double lowest, double highest) {
  const auto* value = find(key);
  if (!value) return otherwise;
  if (!value->is_number() || !(value->get<double>() >= lowest && value->get<double>() <= highest))
    wrong(key, fmt::format("a number from {} to {}", lowest, highest));
  return value->get<double>();
}

double MethodKeys::share(const char* key) {
  const auto* value = find(key);
  if (!value) return 0;
  if (!value->is_number() || !(value->get<double>() >= 0 && value->get<double>() < 1)) wrong(key, "a share from 0 to below 1");
  return value->get<double>();
}

bool MethodKeys::boolean(const char* key, bool otherwise) {
  const auto* value = find(key);
  if (!value) return otherwise;
  if (!value->is_boolean()) wrong(key, "true or false");
  return value->get<bool>();
}

std::vector<std::string> MethodKeys::names(const char* key, std::vector<std::string> otherwise) {
  const auto* value = find(key);
  if (!value) return otherwise;
  if (value->is_string()) return {value->get<std::string>()};
  std::vector<std::string> out;
  if (!value->is_array()) wrong(key, "a list of names");
  for (const auto& item : *value) {
    if (!item.is_string()) wrong(key, "a list of names");
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::vector<std::pair<std::string, int64_t>> MethodKeys::counts(const char* key, int64_t lowest, int64_t highest) {
  const auto* value = find(key);
  std::vector<std::pair<std::string, int64_t>> out;
  if (!value) return out;
  const std::string expected = fmt::format("an object of name: integer from {} to {}", lowest, highest);
  if (!value->is_object()) wrong(key, expected);
  for (const auto& [name, count] : value->items()) {
    if (!count.is_number_integer() || count.get<int64_t>() < lowest || count.get<int64_t>() > highest) wrong(key, expected);
    out.emplace_back(name, count.get<int64_t>());
  }
  return out;
}

std::string MethodKeys::word(const char* key, const std::string& otherwise, const std::vector<std::string>& words) {
  const auto* value = find(key);
  if (!value) return otherwise;
  const std::string found = value->is_boolean()  ? (value->get<bool>() ? "true" : "false")
                            : value->is_string() ? value->get<std::string>()
                                                 : "";
  if (std::ranges::find(words, found) == words.end()) wrong(key, fmt::format("one of {}", fmt::join(words, ", ")));
  return found;
}

nlohmann::json word_json(const std::string& word) {
  return word == "true" ? nlohmann::json(true) : word == "false" ? nlohmann::json(false) : nlohmann::json(word);
}

void MethodKeys::only(const char* key, const nlohmann::ordered_json& built, const char* why) {
  const auto* value = find(key);
  if (value && *value != built) wrong(key, fmt::format("{}: {}", built.dump(), why));
}

void MethodKeys::without_effect(std::initializer_list<const char*> keys) {
  for (const char* key : keys) find(key);
}

}  // namespace loraine
