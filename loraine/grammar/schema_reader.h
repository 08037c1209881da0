// What a JSON Schema says, looked up by its places: references followed, allOf spread out, the limits of each type. Used by
// json_schema.cpp.
#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "loraine/grammar/characters.h"
#include "loraine/grammar/values.h"

namespace loraine::grammar {

inline constexpr int kMostDepth = 32;
inline constexpr size_t kMostSchemaParts = 4096;

// Types as bits; an integer is a number, a fraction the other numbers.
inline constexpr unsigned kNull = 1, kBoolean = 2, kObject = 4, kArray = 8, kString = 16, kInteger = 32, kFraction = 64, kAll = 127;

unsigned type_of(const Json& value);

// A schema and where it stands.
struct SchemaPlace {
  const Json* schema;
  std::string path;
  bool own_only = false;  // its $ref, allOf, anyOf and oneOf were looked at
  SchemaPlace in(const std::string& key) const { return {&(*schema)[key], path + "/" + escaped(key)}; }
  SchemaPlace in(const std::string& key, size_t i) const { return {&(*schema)[key][i], fmt::format("{}/{}/{}", path, escaped(key), i)}; }
  static std::string escaped(const std::string& key) {
    std::string out;
    for (const char c : key)
      if (c == '~') out += "~0";
      else if (c == '/') out += "~1";
      else out += c;
    return out;
  }
};

using SchemaPlaces = std::vector<SchemaPlace>;
// What a value has to satisfy, spread out.
struct SchemaSet {
  SchemaPlaces schemas;                                       // all of them, by their own keywords
  std::vector<std::pair<std::string, SchemaPlaces>> choices;  // one of each
  bool never = false;
};

[[noreturn]] void invalid_schema(const std::string& path, const std::string& what);
[[noreturn]] void unsupported_schema(const std::string& path, const std::string& what);
[[noreturn]] void too_many_parts(const std::string& path);

// Follows references and spreads schemas out. `root` must stay.
class SchemaSpreader {
 public:
  // at: where the root stands in what the caller was given.
  SchemaSpreader(const Json& root, std::string at) : root_(root), at_(std::move(at)) {}
  // Adds what `place` asks of a value. path: schemas that are being spread, one within the other. Throws GrammarError as JsonSchema::rule.
  void spread(const SchemaPlace& place, SchemaSet& out, std::vector<const Json*> path);

 private:
  SchemaPlace target(const SchemaPlace& place) const;  // of its $ref

  const Json& root_;
  const std::string at_;
  size_t parts_ = 0;
};

// Of the schemas that a value has to satisfy all of, by their own keywords:
bool says_nothing(const Json& schema);
unsigned types_in(const SchemaPlaces& schemas);
// The values of enum and const, those that are in all of them.
std::optional<std::vector<Json>> listed(const SchemaPlaces& schemas);
// Whether a listed value has what stands beside the list.
bool satisfies(const Json& value, const SchemaPlaces& schemas);

struct TextLimits {
  int64_t least = 0, most = -1;
  std::optional<CharacterAutomaton> characters;
};
TextLimits text_limits(const SchemaPlaces& schemas);

// The count of an array or a text; from 0.
int64_t count_at(const SchemaPlace& place, const char* key);
const Json& number_at(const SchemaPlace& place, const char* key);
// A bound as a whole number, rounded to the inside; none where it is beyond 64 bits on its own side.
std::optional<int64_t> whole_bound(const Json& value, bool lower, bool exclusive, const std::string& path);

}  // namespace loraine::grammar
