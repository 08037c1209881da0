// See fields.h.
#include "loraine/serve/protocol/fields.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "loraine/io/files/json_text.h"

namespace loraine {

std::string shown(const WireJson& value) {
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>(), 40);
  if (value.is_array()) return value.empty() ? "an empty list" : fmt::format("a list of {}", value.size());
  if (value.is_object()) return "an object";
  return value.dump();
}

const WireJson* Fields::find(const char* name) {
  read_.insert(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void Fields::fail(const char* name, const std::string& expected, const char* code) const {
  const auto found = object_.find(name);
  const std::string is = found == object_.end() ? "missing" : shown(*found);
  throw ApiError{400, fmt::format("{}{} is {}, expected was {}", prefix_, name, is, expected), prefix_ + name, code};
}

std::optional<double> Fields::number(const char* name, double lowest, double highest, bool above_lowest) {
  const WireJson* value = find(name);
  if (!value) return {};
  const double x = value->is_number() ? value->get<double>() : std::numeric_limits<double>::quiet_NaN();
  if (!(x >= lowest && x <= highest) || (above_lowest && x == lowest))
    fail(name, fmt::format("a number {} {} to {}", above_lowest ? "above" : "from", lowest, highest));
  return x;
}

std::optional<int64_t> Fields::integer(const char* name, int64_t lowest, int64_t highest) {
  const WireJson* value = find(name);
  if (!value) return {};
  std::optional<int64_t> x;
  if (value->is_number_unsigned()) {
    if (value->get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) x = value->get<int64_t>();
  } else if (value->is_number_integer()) {
    x = value->get<int64_t>();
  } else if (value->is_number_float() && std::trunc(value->get<double>()) == value->get<double>() &&
             std::abs(value->get<double>()) < 1e15) {
    x = static_cast<int64_t>(value->get<double>());  // 10.0, as some languages write whole numbers
  }
  if (!x || *x < lowest || *x > highest) {
    const bool open = highest == std::numeric_limits<int64_t>::max();
    fail(name, open ? fmt::format("a whole number from {}", lowest) : fmt::format("a whole number from {} to {}", lowest, highest));
  }
  return x;
}

std::optional<bool> Fields::boolean(const char* name) {
  const WireJson* value = find(name);
  if (!value) return {};
  if (!value->is_boolean()) fail(name, "true or false");
  return value->get<bool>();
}

std::optional<std::string> Fields::text(const char* name, size_t longest) {
  const WireJson* value = find(name);
  if (!value) return {};
  if (!value->is_string()) fail(name, "a string");
  if (value->get_ref<const std::string&>().size() > longest) fail(name, fmt::format("a string of at most {} bytes", longest));
  return value->get<std::string>();
}

std::string Fields::required_text(const char* name, size_t longest) {
  std::optional<std::string> value = text(name, longest);
  if (!value || value->empty()) fail(name, "a string that is not empty");
  return *std::move(value);
}

const WireJson* Fields::array(const char* name, size_t most) {
  const WireJson* value = find(name);
  if (!value) return nullptr;
  if (!value->is_array() || value->size() > most) fail(name, fmt::format("a list of at most {}", most));
  return value;
}

const WireJson* Fields::object(const char* name) {
  const WireJson* value = find(name);
  if (value && !value->is_object()) fail(name, "an object");
  return value;
}

const WireJson* Fields::any(const char* name) { return find(name); }

std::vector<std::string> Fields::unread() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items())
    if (!read_.contains(name)) names.push_back(name);
  return names;
}

}  // namespace loraine
