// What the arguments of tools may be, for forms that write all values as bare text. Used by read_call.cpp.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace loraine {

class ToolTypes {
 public:
  ToolTypes() = default;
  // The request's `tools`: a list of functions, plain or as {"type": "function", "function": …}; what is none is passed over.
  explicit ToolTypes(const nlohmann::ordered_json& tools);

  // The value that a text stands for: as the schema of this argument says, and where it says nothing JSON if it is any but a text.
  nlohmann::ordered_json value(std::string_view tool, std::string_view key, std::string_view text) const;
  bool knows(std::string_view tool, std::string_view key) const;  // whether there is a schema of it

 private:
  nlohmann::ordered_json parameters_ = nlohmann::ordered_json::object();  // of each tool: the schema of its arguments
};

// JSON that is read with a limit on nesting; discarded where it is none.
nlohmann::ordered_json json_within_limits(std::string_view text);

}  // namespace loraine
