// An answer as a grammar: thoughts, calls of tools in a model's own form (for `tool_choice` required or a name, and behind the opening
// marker), a text of a given shape. Used by serving, with the calls of grammar/grammar.h.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "loraine/grammar/grammar.h"
#include "loraine/text/calls/answer_reader.h"
#include "loraine/text/calls/call_format.h"

namespace loraine {

struct CallGrammar {
  const CallFormat* format = nullptr;  // nullptr: no calls
  nlohmann::ordered_json tools;        // the request's list; names are [A-Za-z0-9_-]{1,64}
  // required: the answer is calls and nothing else, thoughts apart. Else it is text, and what comes behind an opening marker is a call.
  bool required = true;
  std::optional<grammar::Shape> shape = {};      // the text, where it is not free; with tools that are not required: this or calls
  std::string name = {};                         // not empty: of this tool alone
  bool parallel = true;                          // several calls
  std::vector<std::string> special_tokens = {};  // spellings of the vocabulary's special tokens: markers among them are those tokens
  std::optional<ThoughtMarks> thoughts = {};
  bool in_thought = false;
};

// nullptr where there is nothing to enforce: no shape, and the form has no opening marker and calls are not required. Arguments follow the
// tool's schema; of a tool that is not `strict` and whose schema is not supported they are any object. Throws GrammarError, with the path
// from "#/tools"; usage about a name.
std::shared_ptr<const grammar::Automaton> call_grammar(const CallGrammar& wanted);

}  // namespace loraine
