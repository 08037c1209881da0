// Tool definitions and calls as text, in the format a named template uses, and back. Called by encode.cpp and by who answers.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "loraine/text/calls/tool_call.h"

namespace loraine {

std::vector<std::string> tool_formats();
void check_tool_format(const std::string& format);  // throws usage that lists the known ones

// What is written behind the system text for a JSON list of tools (plain functions, or {"type": "function", "function": …}).
// `today` is the date that llama3's text holds ("26 Jul 2024"); empty: the machine's.
std::string tools_text(const std::string& format, const std::string& tools_json, const std::string& today = {});

// The assistant's text for one call or a list of calls, each {"name", "arguments"}. words: the calls may stand between the format's tags
// or behind a thought, which opens and closes with these; the text around them is kept in front.
struct CallWords {
  std::string open_thought, close_thought;
};
std::string calls_text(const std::string& format, const std::string& calls, const std::optional<CallWords>& words);

// The calls in an answer, or none where it is a text. As LLaMA-Factory reads them, which also gives nothing where a call is broken.
std::optional<std::vector<ToolCall>> read_calls(const std::string& format, const std::string& answer);

}  // namespace loraine
