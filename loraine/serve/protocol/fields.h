// Fields of a request, each read with its type and range; the messages name field, value and what was expected. Used by the readers of
// requests.
#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/serve/protocol/errors.h"

namespace loraine {

// Every getter gives nothing where the field is absent or null, and throws ApiError (400) with `param` where it does not fit.
class Fields {
 public:
  // prefix: what stands before the names in messages ("stream_options.").
  explicit Fields(const WireJson& object, std::string prefix = {}) : object_(object), prefix_(std::move(prefix)) {}

  std::optional<double> number(const char* name, double lowest, double highest, bool above_lowest = false);
  std::optional<int64_t> integer(const char* name, int64_t lowest, int64_t highest);
  std::optional<bool> boolean(const char* name);
  std::optional<std::string> text(const char* name, size_t longest = SIZE_MAX);
  const WireJson* array(const char* name, size_t most);
  const WireJson* object(const char* name);
  const WireJson* any(const char* name);  // whatever it is
  std::string required_text(const char* name, size_t longest);

  [[noreturn]] void fail(const char* name, const std::string& expected, const char* code = "") const;
  // Fields that are there and were not asked for.
  std::vector<std::string> unread() const;

 private:
  const WireJson* find(const char* name);
  const WireJson& object_;
  std::string prefix_;
  std::set<std::string, std::less<>> read_;
};

// "17", "\"ab…\"", "a list": a value for a message.
std::string shown(const WireJson& value);

}  // namespace loraine
