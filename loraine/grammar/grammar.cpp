// See grammar.h.
#include "loraine/grammar/grammar.h"

#include <fmt/format.h>

#include "loraine/grammar/json_schema.h"

namespace loraine::grammar {
namespace {

std::shared_ptr<const Automaton> compiled(const Shape& shape) {
  Rules rules;
  const Rules::Node whole = shape_rules(rules, shape);
  return compile(rules, rules.add("#", whole));
}

}  // namespace

Rules::Node shape_rules(Rules& rules, const Shape& shape) {
  switch (shape.kind) {
    case Shape::Kind::json_object: return Values(rules, Spelling::json).any_object();
    case Shape::Kind::json_schema: {
      const Json schema = read_schema(shape.text);
      const Values values(rules, Spelling::json);
      return rules.call(JsonSchema(values, schema).rule());
    }
    case Shape::Kind::regex: {
      const CharacterAutomaton characters = parse_regex(shape.text);
      if (characters.states.empty())
        throw GrammarError("invalid_regex", "", fmt::format("the pattern `{}` matches nothing", shape.text.substr(0, 80)));
      return utf8_graph(rules, characters);
    }
    case Shape::Kind::choice: break;
  }
  if (shape.texts.empty() || shape.texts.size() > 10'000)
    throw GrammarError("grammar_too_large", "", fmt::format("choice: {} texts, 1 to 10000 are taken", shape.texts.size()));
  std::vector<Rules::Node> nodes;
  for (const std::string& text : shape.texts) nodes.push_back(rules.literal(text));
  return rules.choice(std::move(nodes));
}

std::shared_ptr<const Automaton> json_object() { return compiled({}); }

std::shared_ptr<const Automaton> json_schema(std::string_view text) {
  return compiled({.kind = Shape::Kind::json_schema, .text = std::string(text)});
}

std::shared_ptr<const Automaton> regex(std::string_view pattern) {
  return compiled({.kind = Shape::Kind::regex, .text = std::string(pattern)});
}

std::shared_ptr<const Automaton> choice(const std::vector<std::string>& texts) {
  return compiled({.kind = Shape::Kind::choice, .texts = texts});
}

}  // namespace loraine::grammar
