// JSON Schemas as rules: texts that satisfy the schema, their properties in the schema's order. docs/grammar.md lists the keywords.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "loraine/grammar/characters.h"
#include "loraine/grammar/rules.h"
#include "loraine/grammar/values.h"

namespace loraine::grammar {

// What an object may hold, for who writes objects in a form of his own (the arguments of a call).
struct ObjectShape {
  struct Property {
    std::string name;
    Rules::Rule value;
    bool required;
    std::optional<CharacterAutomaton> text;  // where it is a string (or null): what it may hold, for forms that write texts bare
  };
  std::vector<Property> properties;
  bool open = false;            // others may follow
  Rules::Rule additional = -1;  // what they hold
};

class JsonSchema {
 public:
  // `schema` and `values` must stay. at: where the schema stands in what the caller was given, the beginning of paths in errors.
  JsonSchema(const Values& values, const Json& schema, std::string at = "#");
  ~JsonSchema();

  // Throws GrammarError: unsupported_schema (a keyword that constrains and is not built, or what nothing satisfies), invalid_schema,
  // invalid_regex, grammar_too_large (depth 32, 4,096 parts).
  Rules::Rule rule();
  // unsupported_schema where it is anything but one object. bare_texts: Property::text is wanted.
  ObjectShape object(bool bare_texts = false);

 private:
  class Compiler;
  std::unique_ptr<Compiler> compiler_;
};

// The text of a schema, read: at most 256 KB, nested at most 256 deep. Throws GrammarError invalid_schema.
Json read_schema(std::string_view text);

}  // namespace loraine::grammar
