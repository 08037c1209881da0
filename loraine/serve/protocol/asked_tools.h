// Tools that a request gives its model, whichever protocol it came in.
#pragma once
#include <string>

#include "loraine/serve/protocol/fields.h"

namespace loraine {

struct AskedTools {
  WireJson list = WireJson::array();  // {"type": "function", "function": {"name", "description", "parameters", "strict"}} each, checked
  enum class Choice : uint8_t { none, automatic, required } choice = Choice::automatic;
  std::string name = {};  // required: of this one alone
  bool parallel = true;   // several calls in one answer
  bool on() const { return !list.empty() && choice != Choice::none; }
};

// The function of one tool, as templates take it. place: of it in the request ("tools[2].function"). Throws ApiError with the field.
WireJson plain_function(const WireJson& function, const std::string& place, const char* parameters_key = "parameters");
// A tool of this function joins; throws where the name is taken.
void add_tool(AskedTools& tools, WireJson function, const std::string& place);
// The name that tool_choice gives; throws where no tool has it.
void require_tool(AskedTools& tools, const std::string& name, const std::string& place);

// OpenAI's `tools`, `tool_choice`, `parallel_tool_calls`.
AskedTools read_tools(Fields& fields);

}  // namespace loraine
