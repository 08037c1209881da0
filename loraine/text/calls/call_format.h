// The forms in which models write calls of tools, one row each: how a call begins, and how its template is told by its text. What reads a
// form is in read_call.cpp, what enforces it in call_grammar.cpp.
#pragma once
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace loraine {

enum class CallForm : uint8_t {
  tagged_json,     // <tool_call>{"name", "arguments"}</tool_call>, or a list of them inside
  function_tags,   // <tool_call><function=name><parameter=key>value</parameter></function></tool_call>
  llama_json,      // {"name", "parameters"}, several joined by ;
  mistral,         // [TOOL_CALLS] and a list of {"name", "arguments"}, or name[ARGS]{…}
  gemma,           // <|tool_call>call:name{key:value}<tool_call|>
  argument_pairs,  // <tool_call>name and <arg_key>, <arg_value> pairs
  python_calls,    // <|tool_call_start|>[name(key=value)]<|tool_call_end|>
  functools,       // functools and a list of {"name", "arguments"}
  deepseek,        // names and JSON between markers with wide bars
  toolcall_list,   // <TOOLCALL> and a list of {"name", "arguments"}
  command,         // Action: and a list of {"tool_name", "parameters"} in marks of code
  action,          // Action: name, and on the next line Action Input: {…}; marks of code may stand around them
  bare_json,       // {"name", "arguments"} or a list of them, and nothing else
};

struct CallFormat {
  std::string_view name;
  CallForm form;
  std::vector<std::string_view> openers;  // texts that a call may begin with, anywhere
  std::string_view at_start;              // characters that a call may begin with where nothing but blanks came before
  std::string_view after_call;            // texts that a further call may begin with, right behind one
  std::string_view marks;                 // all that may be special tokens in a call: their spellings are parts of this
};

std::vector<std::string> call_formats();
// Also by LLaMA-Factory's names (tool_format: default, qwen, llama3, …) and vLLM's. Throws usage, with the names.
const CallFormat& call_format(std::string_view name);
// By markers in the text of a chat template; `json` where there is none.
const CallFormat& call_format_of_template(std::string_view chat_template);

// A new id of a call: call_ and 24 hexadecimal digits; for Mistral nine letters and digits.
std::string new_call_id(const CallFormat& format, std::mt19937_64& random);

}  // namespace loraine
