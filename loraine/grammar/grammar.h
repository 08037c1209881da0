// Grammars for what a caller may ask an answer to be, and the way from there to masks. A server needs three calls:
//
//   auto grammar = json_schema(text);                                        // or json_object(), regex(…), choice(…): throws GrammarError
//   auto masks = std::make_shared<TokenGrammar>(grammar, vocabulary);        // kept and shared by all requests with the same grammar
//   request.mask = std::make_shared<GrammarState>(masks);                    // one for a sequence; the engine does the rest
//
// The vocabulary is made once for a model (vocabulary.h; `vocabulary_tokens` of text/tokenizer gives the bytes of its tokens). For n
// answers to one prompt copy the state. GrammarError::code and ::path are what an answer 400 names.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/grammar/automaton.h"
#include "loraine/grammar/grammar_state.h"
#include "loraine/grammar/rules.h"
#include "loraine/grammar/token_grammar.h"
#include "loraine/grammar/vocabulary.h"

namespace loraine::grammar {

// What a whole text may be.
struct Shape {
  enum class Kind : uint8_t { json_object, json_schema, regex, choice } kind = Kind::json_object;
  std::string text = {};                // the schema or the pattern
  std::vector<std::string> texts = {};  // of a choice: at most 10,000
};
// As a part of a larger grammar. Throws GrammarError.
Rules::Node shape_rules(Rules& rules, const Shape& shape);

std::shared_ptr<const Automaton> json_object();                                  // any JSON object
std::shared_ptr<const Automaton> json_schema(std::string_view schema);           // the text of the schema
std::shared_ptr<const Automaton> regex(std::string_view pattern);                // the whole answer matches
std::shared_ptr<const Automaton> choice(const std::vector<std::string>& texts);  // one of these, at most 10,000

}  // namespace loraine::grammar
