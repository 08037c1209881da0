// Calls out of a text that begins like one. Used by answer_reader.cpp.
#pragma once
#include <string_view>
#include <vector>

#include "loraine/text/calls/call_format.h"
#include "loraine/text/calls/tool_call.h"
#include "loraine/text/calls/tool_types.h"

namespace loraine {

struct CallRead {
  enum class Outcome : uint8_t { calls, more, none } outcome;  // more: it depends on what comes; none: it is no call
  size_t bytes = 0;                                            // of the calls
  std::vector<ToolCall> calls;
};

// at_end: nothing more comes; a form whose last marker alone is missing is taken then. Never throws for what the text holds.
CallRead read_call(const CallFormat& format, std::string_view text, bool at_end, const ToolTypes& types);

}  // namespace loraine
