// What LLaMA-Factory writes between results of tools that came together (rows of formatting openai). Rows are read so, and a model's own
// chat template gets them apart again.
#pragma once
#include <string_view>

namespace loraine {

inline constexpr std::string_view kBetweenResults = "\n</tool_response>\n<tool_response>\n";

}  // namespace loraine
