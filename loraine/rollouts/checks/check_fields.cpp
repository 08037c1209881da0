// See check_fields.h.
#include "loraine/rollouts/checks/check_fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "loraine/core/describe.h"

namespace loraine {

Error CheckFields::wrong(const std::string& key, const std::string& expected) const {
  return {ErrorKind::usage, fmt::format("{}: {} is {}, expected {}", place_, key, fields_.at(key).dump().substr(0, 100), expected)};
}

Error CheckFields::missing(const std::string& key, const std::string& example) const {
  return {ErrorKind::usage, fmt::format("{}: {} is not given", place_, key), fmt::format("give it: {}: {}", key, example)};
}

const nlohmann::ordered_json* CheckFields::value(const char* key) {
  asked_.insert(key);
  const auto found = fields_.find(key);
  return found == fields_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<std::string> CheckFields::text(const char* key) {
  const nlohmann::ordered_json* found = value(key);
  if (!found) return std::nullopt;
  if (found->is_number()) return found->dump();
  if (!found->is_string()) throw wrong(key, "a text");
  return found->get<std::string>();
}

std::string CheckFields::needed_text(const char* key, const char* example) {
  if (std::optional<std::string> found = text(key)) return *found;
  throw missing(key, example);
}

std::optional<double> CheckFields::number(const char* key) {
  const nlohmann::ordered_json* found = value(key);
  if (!found) return std::nullopt;
  if (!found->is_number()) throw wrong(key, "a number");
  return found->get<double>();
}

bool CheckFields::yes(const char* key, bool otherwise) {
  const nlohmann::ordered_json* found = value(key);
  if (!found) return otherwise;
  if (!found->is_boolean()) throw wrong(key, "true or false");
  return found->get<bool>();
}

std::string CheckFields::choice(const char* key, const std::vector<std::string>& of) {
  const std::optional<std::string> found = text(key);
  if (!found) return of.front();
  if (std::ranges::find(of, *found) == of.end()) throw wrong(key, fmt::format("one of: {}", fmt::join(of, ", ")));
  return *found;
}

void CheckFields::end() const {
  const std::vector<std::string> known(asked_.begin(), asked_.end());
  for (const auto& [key, ignored] : fields_.items()) {
    if (asked_.contains(key)) continue;
    const std::string near = nearest_word(key, known);
    throw Error(ErrorKind::usage, fmt::format("{}: unknown key '{}'", place_, key),
                (near.empty() ? "" : "did you mean '" + near + "'? ") + fmt::format("there are: {}", fmt::join(known, ", ")));
  }
}

}  // namespace loraine
