// A call of a tool as a model asks for it.
#pragma once
#include <string>

namespace loraine {

struct ToolCall {
  std::string name, arguments;  // arguments: JSON text
  bool operator==(const ToolCall&) const = default;
};

}  // namespace loraine
