// The tool formats as rows of one table. Used by the files of data/tools only.
#pragma once
#include <string>
#include <string_view>

namespace loraine {

// How one tool is put into the text.
enum class ToolStyle : uint8_t {
  listed,             // name, description and arguments as plain lines
  wrapped,            // {"type": "function", "function": …} on a line of its own
  bare,               // the function alone, on a line of its own
  indented,           // wrapped, over several lines
  titled,             // a heading with the name, then the function over several lines
  in_list,            // wrapped, all tools as one JSON list
  functions_in_list,  // the functions alone, as one JSON list
  as_given,           // all tools as they are, as one JSON list
  plain_lines,        // the function alone, a line each
  tool_tags,          // the function alone in <tool> tags, a line each
  declared,           // Gemma's declaration:name{…}, a line each
  raw,                // the text of the column, not looked at
};

enum class CallStyle : uint8_t {
  action,          // Action: name \n Action Input: arguments
  name_first,      // name \n arguments; one call only
  parameters,      // {"name", "parameters"}; several calls as a list
  list,            // a list of {"name", "arguments"}
  tagged,          // <tool_call> around {"name", "arguments"}
  function_tags,   // <function=name> with <parameter=key> blocks
  argument_pairs,  // <arg_key>, <arg_value> pairs
  seed_tags,       // <seed:tool_call> with <function=name> and <parameter=key> on lines of their own
  python_calls,    // [name(key="value", other=3)] between two tokens
  call_lines,      // <tool_calls> around {"name", "arguments"}, a line each
  invoke_tags,     // <invoke name="…"> with <parameter name="…"> blocks
  gemma_calls,     // <|tool_call>call:name{key:value}<tool_call|>
};

struct ToolFormat {
  std::string_view name;
  ToolStyle tools;
  CallStyle calls;
  std::string_view before, after;  // around the tools' text; {names} and {date} are filled in
  bool own = false;                // of one template, not a choice for others
};

const ToolFormat& tool_format(const std::string& name);  // throws usage that lists the known ones

}  // namespace loraine
