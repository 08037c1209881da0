// See grammar.h.
#include "loraine/grammar/grammar.h"

#include <fmt/format.h>

#include "loraine/grammar/json_schema.h"

namespace loraine::grammar {

std::shared_ptr<const Automaton> json_object() {
  Rules rules;
  const Values values(rules, Spelling::json);
  return compile(rules, rules.add("#", values.any_object()));
}

std::shared_ptr<const Automaton> json_schema(std::string_view text) {
  const Json schema = read_schema(text);
  Rules rules;
  const Values values(rules, Spelling::json);
  return compile(rules, JsonSchema(values, schema).rule());
}

std::shared_ptr<const Automaton> regex(std::string_view pattern) {
  Rules rules;
  const CharacterAutomaton characters = parse_regex(pattern);
  if (characters.states.empty())
    throw GrammarError("invalid_regex", "", fmt::format("the pattern `{}` matches nothing", pattern.substr(0, 80)));
  return compile(rules, rules.add("pattern", utf8_graph(rules, characters)));
}

std::shared_ptr<const Automaton> choice(const std::vector<std::string>& texts) {
  if (texts.empty() || texts.size() > 10'000)
    throw GrammarError("grammar_too_large", "", fmt::format("choice: {} texts, 1 to 10000 are taken", texts.size()));
  Rules rules;
  std::vector<Rules::Node> nodes;
  for (const std::string& text : texts) nodes.push_back(rules.literal(text));
  return compile(rules, rules.add("choice", rules.choice(std::move(nodes))));
}

}  // namespace loraine::grammar
