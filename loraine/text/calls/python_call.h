// Calls in Python's spelling, [name(key="value", other=3)]: what models with the format lfm2 answer. Called by
// read_call.cpp and by data/tools.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "loraine/text/calls/tool_call.h"

namespace loraine {

// One call or a list of calls; values are literals of Python, or true, false and null. Arguments without a name are passed over. None
// where the text is anything else.
std::optional<std::vector<ToolCall>> read_python_calls(std::string_view text);

}  // namespace loraine
