// Each kind of value with its error.
#include "loraine/model/families/config_reader.h"

#include <fmt/format.h>

#include "loraine/core/error.h"

namespace loraine {

void ConfigReader::wrong(const char* key, const std::string& expected) const {
  std::string found = hf_.contains(key) ? hf_[key].dump().substr(0, 80) : "absent";
  throw Error(ErrorKind::bad_data, fmt::format("{}: {} is {}, expected {}", file_, key, found, expected));
}
const nlohmann::json* ConfigReader::get(const char* key) const {
  auto it = hf_.find(key);
  return it == hf_.end() || it->is_null() ? nullptr : &*it;
}
const nlohmann::json* ConfigReader::given(const char* key, const std::string& expected) const {
  auto it = hf_.find(key);
  if (it == hf_.end()) return nullptr;
  if (it->is_null()) wrong(key, expected);
  return &*it;
}
int64_t ConfigReader::positive_or(const char* key, int64_t otherwise) const {
  const nlohmann::json* value = given(key, "a whole number above 0");
  if (!value) return otherwise;
  if (!value->is_number_integer() || value->get<int64_t>() < 1 || value->get<int64_t>() > (1ll << 31)) wrong(key, "a whole number above 0");
  return value->get<int64_t>();
}
int64_t ConfigReader::positive(const char* key) const {
  if (!get(key)) wrong(key, "a whole number above 0");
  return positive_or(key, 0);
}
double ConfigReader::number_or(const char* key, double otherwise) const {
  const nlohmann::json* value = given(key, "a number");
  if (!value) return otherwise;
  if (!value->is_number()) wrong(key, "a number");
  return value->get<double>();
}
bool ConfigReader::flag_or(const char* key, bool otherwise) const {
  const nlohmann::json* value = given(key, "true or false");
  if (!value) return otherwise;
  if (!value->is_boolean()) wrong(key, "true or false");
  return value->get<bool>();
}
std::string ConfigReader::text_or(const char* key, const std::string& otherwise) const {
  const nlohmann::json* value = get(key);
  if (!value) return otherwise;
  if (!value->is_string()) wrong(key, "a text");
  return value->get<std::string>();
}
std::vector<double> ConfigReader::numbers(const char* key) const {
  const nlohmann::json* value = get(key);
  if (!value || !value->is_array()) wrong(key, "a list of numbers");
  std::vector<double> all;
  for (const auto& one : *value) {
    if (!one.is_number()) wrong(key, "a list of numbers");
    all.push_back(one.get<double>());
  }
  return all;
}
ConfigReader ConfigReader::inside(const char* key) const {
  static const nlohmann::json kNone = nlohmann::json::object();
  const nlohmann::json* value = get(key);
  if (value && !value->is_object()) wrong(key, "an object");
  return {value ? *value : kNone, file_ + ": " + key};
}

}  // namespace loraine
