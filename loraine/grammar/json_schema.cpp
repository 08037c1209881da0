// See json_schema.h. A value has to satisfy a set of schemas at once (a schema, what its $ref names, the members of its allOf): the set is
// spread out, then becomes one rule for each choice of anyOf and oneOf.
#include "loraine/grammar/json_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "loraine/grammar/schema_reader.h"

namespace loraine::grammar {

namespace {

constexpr size_t kMostBytes = 256 << 10, kMostSchemaNesting = 256;
const Json kTrue = true, kFalse = false;

}  // namespace

class JsonSchema::Compiler {
 public:
  using Node = Rules::Node;
  Compiler(const Values& values, const Json& root, std::string at)
      : v_(values), r_(values.rules()), root_(root), at_(std::move(at)), spreader_(root_, at_) {}

  Rules::Rule compile_root() { return compile({{&root_, at_}}, 0); }

  ObjectShape root_object(bool bare_texts) {
    bare_texts_ = bare_texts;
    SchemaSet set;
    spreader_.spread({&root_, at_}, set, {});
    if (!set.choices.empty()) unsupported_schema(set.choices[0].first, "the arguments of a tool are one object, not a choice");
    const unsigned types = types_in(set.schemas);
    if (set.never || !(types & kObject)) unsupported_schema(at_, "the arguments of a tool are an object");
    return shape(set.schemas, 1);
  }

 private:
  Rules::Rule compile(const SchemaPlaces& places, int depth) {
    std::vector<std::pair<const Json*, bool>> key;
    for (const SchemaPlace& place : places) key.emplace_back(place.schema, place.own_only);
    std::sort(key.begin(), key.end());
    key.erase(std::unique(key.begin(), key.end()), key.end());
    if (const auto found = known_.find(key); found != known_.end()) return found->second;
    const std::string& path = places[0].path;
    if (depth > kMostDepth)
      throw GrammarError("grammar_too_large", path, fmt::format("the schema is nested more than {} deep", kMostDepth));
    if (known_.size() >= kMostSchemaParts) too_many_parts(path);
    const Rules::Rule rule = r_.add(path);
    known_[key] = rule;
    SchemaSet set;
    for (const SchemaPlace& place : places) spreader_.spread(place, set, {});
    r_.define(rule, set.never ? r_.never() : set.choices.empty() ? plain(set.schemas, depth) : chosen(set, depth));
    return rule;
  }

  Node chosen(const SchemaSet& set, int depth) {
    std::vector<SchemaPlaces> all{set.schemas};
    for (const auto& [path, alternatives] : set.choices) {
      std::vector<SchemaPlaces> more;
      if (all.size() * alternatives.size() > 1024) too_many_parts(path);
      for (const SchemaPlaces& before : all)
        for (const SchemaPlace& alternative : alternatives) {
          more.push_back(before);
          more.back().push_back(alternative);
        }
      all = std::move(more);
    }
    std::vector<Node> nodes;
    for (SchemaPlaces& places : all) {
      std::rotate(places.begin(), places.end() - 1, places.end());  // the alternative names the rule
      // schemas that say nothing themselves make no difference
      std::erase_if(places, [&](const SchemaPlace& place) { return place.own_only && says_nothing(*place.schema); });
      nodes.push_back(r_.call(compile(places, depth + 1)));
    }
    return r_.choice(std::move(nodes));
  }

  Node plain(const SchemaPlaces& schemas, int depth) {
    const unsigned types = types_in(schemas);
    if (const auto values = listed(schemas)) {
      std::vector<Node> nodes;
      for (const Json& value : *values)
        if ((types & type_of(value)) && satisfies(value, schemas)) nodes.push_back(v_.literal(value));
      return r_.choice(std::move(nodes));
    }
    if (std::all_of(schemas.begin(), schemas.end(), [](const SchemaPlace& place) { return says_nothing(*place.schema); })) return v_.any();
    std::vector<Node> nodes;
    if (types & kObject) nodes.push_back(object(schemas, depth));
    if (types & kArray) nodes.push_back(array(schemas, depth));
    if (types & kString) nodes.push_back(text(schemas));
    if (types & (kInteger | kFraction)) nodes.push_back(number(schemas, types));
    if (types & kBoolean) nodes.insert(nodes.end(), {v_.boolean(true), v_.boolean(false)});
    if (types & kNull) nodes.push_back(v_.null());
    return r_.choice(std::move(nodes));
  }

  Node text(const SchemaPlaces& schemas) const {
    TextLimits limits = text_limits(schemas);
    if (limits.most >= 0 && limits.most < limits.least) return r_.never();
    if (!limits.characters) return v_.text(limits.least, limits.most);
    if (limits.least > 0 || limits.most >= 0) limits.characters = both(*limits.characters, of_length(limits.least, limits.most));
    return v_.text(*limits.characters);
  }

  Node number(const SchemaPlaces& schemas, unsigned types) const {
    std::optional<int64_t> least, most;
    for (const SchemaPlace& place : schemas)
      for (const char* key : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}) {
        if (!place.schema->contains(key)) continue;
        const std::string path = place.path + "/" + key;
        const Json& value = number_at(place, key);
        if (types & kFraction) unsupported_schema(path, "limits are supported for integers only");
        const bool lower = std::string_view(key).ends_with("inimum"), exclusive = key[0] == 'e';
        const auto here = whole_bound(value, lower, exclusive, path);
        if (!here) continue;
        if (lower) least = std::max(least.value_or(*here), *here);
        else most = std::min(most.value_or(*here), *here);
      }
    return types & kFraction ? v_.number() : v_.integer(least, most);
  }

  Node array(const SchemaPlaces& schemas, int depth) {
    int64_t least = 0, most = -1;
    size_t prefix = 0;
    for (const SchemaPlace& place : schemas) {
      const Json& s = *place.schema;
      const auto limit = [&](int64_t n) { most = most < 0 ? n : std::min(most, n); };
      if (s.contains("minItems")) least = std::max(least, count_at(place, "minItems"));
      if (s.contains("maxItems")) limit(count_at(place, "maxItems"));
      if (s.contains("prefixItems")) {
        if (!s["prefixItems"].is_array()) invalid_schema(place.path + "/prefixItems", "is no list of schemas");
        prefix = std::max(prefix, s["prefixItems"].size());
      }
      if (s.contains("items") && s["items"].is_array())
        unsupported_schema(place.path + "/items", "a list is the old spelling of prefixItems; write that");
    }
    if (least > 100'000) throw GrammarError("grammar_too_large", schemas[0].path + "/minItems", "at most 100000 items can be asked for");
    // The schemas of item i; of any after the prefix.
    const auto item = [&](size_t i) {
      SchemaPlaces out;
      for (const SchemaPlace& place : schemas) {
        const Json& s = *place.schema;
        if (s.contains("prefixItems") && i < s["prefixItems"].size()) out.push_back(place.in("prefixItems", i));
        else if (s.contains("items")) out.push_back(place.in("items"));
      }
      if (out.empty()) out.push_back({&kTrue, schemas[0].path + "/items"});
      return compile(out, depth + 1);
    };
    Node after;  // what comes behind the prefix
    const int64_t fixed = static_cast<int64_t>(prefix);
    const int64_t rest_least = std::max<int64_t>(least - std::max<int64_t>(fixed, 1), 0);
    const int64_t rest_most = most < 0 ? -1 : std::max<int64_t>(most - std::max<int64_t>(fixed, 1), 0);
    const bool room = most < 0 || most > fixed;
    const Rules::Rule rest = room ? item(prefix) : -1;
    if (!room) {
      after = r_.nothing();
    } else {
      const Node next = r_.sequence({v_.comma(), r_.call(rest)});
      after =
          rest_most < 0 && rest_least == 0 ? r_.repeat(next, 0) : r_.call(r_.counted("items", r_.add("item", next), rest_least, rest_most));
    }
    for (int64_t i = fixed; i-- > 1;) {
      if (most >= 0 && i >= most) {
        after = r_.nothing();
        continue;
      }
      after = r_.sequence({v_.comma(), r_.call(item(static_cast<size_t>(i))), after});
      if (i >= least) after = r_.optional(after);
    }
    const Node first = fixed > 0 && most != 0 ? r_.call(item(0)) : room ? r_.call(rest) : r_.never();
    std::vector<Node> inside{r_.sequence({first, after, v_.close(']')})};
    if (least == 0) inside.push_back(r_.literal("]"));
    return r_.sequence({v_.open('['), r_.choice(std::move(inside))});
  }

  ObjectShape shape(const SchemaPlaces& schemas, int depth) {
    ObjectShape out;
    std::vector<std::string> names;
    std::set<std::string> required, seen;
    bool closed = false, told = false, named = false;
    const auto name = [&](const std::string& key) {
      if (seen.insert(key).second) names.push_back(key);
    };
    for (const SchemaPlace& place : schemas) {
      const Json& s = *place.schema;
      if (s.contains("properties")) {
        if (!s["properties"].is_object()) invalid_schema(place.path + "/properties", "is no object");
        named = true;
        for (const auto& [key, schema] : s["properties"].items()) name(key);
      }
      if (s.contains("additionalProperties")) {
        const Json& value = s["additionalProperties"];
        if (!value.is_boolean() && !value.is_object()) invalid_schema(place.path + "/additionalProperties", "is no schema");
        told = true;
        closed |= value == kFalse;
      }
    }
    for (const SchemaPlace& place : schemas) {
      if (!place.schema->contains("required")) continue;
      const Json& list = (*place.schema)["required"];
      if (!list.is_array()) invalid_schema(place.path + "/required", "is no list of names");
      for (const Json& key : list) {
        if (!key.is_string()) invalid_schema(place.path + "/required", "is no list of names");
        required.insert(key.get<std::string>());
        name(key.get<std::string>());
      }
    }
    SchemaPlaces additional;
    for (const SchemaPlace& place : schemas)
      if (place.schema->contains("additionalProperties")) additional.push_back(place.in("additionalProperties"));
    out.open = !closed && (told || !named);  // properties alone: those and no others
    if (out.open)
      out.additional =
          compile(additional.empty() ? SchemaPlaces{{&kTrue, schemas[0].path + "/additionalProperties"}} : additional, depth + 1);
    for (const std::string& key : names) {
      SchemaPlaces places;
      for (const SchemaPlace& place : schemas) {
        const Json& s = *place.schema;
        if (s.contains("properties") && s["properties"].contains(key))
          places.push_back({&s["properties"][key], place.path + "/properties/" + SchemaPlace::escaped(key)});
        else if (s.contains("additionalProperties")) places.push_back(place.in("additionalProperties"));
      }
      if (places.empty()) places.push_back({&kTrue, schemas[0].path + "/properties/" + SchemaPlace::escaped(key)});
      out.properties.push_back(
          {key, compile(places, depth + 1), required.contains(key), bare_texts_ ? bare_text(places, 0) : std::nullopt});
    }
    return out;
  }

  // What the texts that satisfy these hold, where nothing else but null does.
  std::optional<CharacterAutomaton> bare_text(const SchemaPlaces& places, int depth) {
    SchemaSet set;
    for (const SchemaPlace& place : places) spreader_.spread(place, set, {});
    if (set.never || depth > kMostDepth || set.choices.size() > 1) return {};
    if (set.choices.empty()) return bare_text(set.schemas);
    std::optional<CharacterAutomaton> out;
    for (const SchemaPlace& alternative : set.choices[0].second) {
      SchemaPlaces one = set.schemas;
      one.push_back(alternative);
      const SchemaPlace null_too{alternative.schema, alternative.path};
      SchemaSet alone;
      spreader_.spread(null_too, alone, {});
      if (alone.choices.empty() && !alone.never && types_in(alone.schemas) == kNull) continue;
      const auto text = bare_text(one, depth + 1);
      if (!text) return {};
      out = out ? either(*out, *text) : text;
    }
    return out;
  }

  std::optional<CharacterAutomaton> bare_text(const SchemaPlaces& schemas) const {
    const unsigned types = types_in(schemas);
    if (const auto values = listed(schemas)) {
      std::optional<CharacterAutomaton> out;
      for (const Json& value : *values) {
        if (!(types & type_of(value)) || value.is_null()) continue;
        if (!value.is_string()) return {};
        if (satisfies(value, schemas)) out = out ? either(*out, only(value.get<std::string>())) : only(value.get<std::string>());
      }
      return out;
    }
    if ((types & ~kNull) != kString || !(types & kString)) return {};
    const TextLimits limits = text_limits(schemas);
    CharacterAutomaton length = of_length(limits.least, limits.most);
    return limits.characters ? both(*limits.characters, length) : length;
  }

  Node object(const SchemaPlaces& schemas, int depth) {
    const ObjectShape object = shape(schemas, depth);
    if (object.properties.empty() && object.open &&
        std::none_of(schemas.begin(), schemas.end(), [](const SchemaPlace& p) { return p.schema->contains("additionalProperties"); }))
      return v_.any_object();
    return object_node(v_, object);
  }

  static Node object_node(const Values& v, const ObjectShape& object) {
    Rules& r = v.rules();
    // States 2i and 2i + 1 stand before property i, with none written so far and with some; the last one is behind the object.
    const int32_t n = static_cast<int32_t>(object.properties.size()), end = 2 * n + 2;
    std::vector<Rules::Edge> edges;
    for (int32_t i = 0; i < n; ++i) {
      const ObjectShape::Property& property = object.properties[static_cast<size_t>(i)];
      const Node member = r.sequence({v.key(property.name), r.call(property.value)});
      edges.push_back({2 * i, 2 * i + 3, member});
      edges.push_back({2 * i + 1, 2 * i + 3, r.sequence({v.comma(), member})});
      if (property.required) continue;
      edges.push_back({2 * i, 2 * i + 2, r.nothing()});
      edges.push_back({2 * i + 1, 2 * i + 3, r.nothing()});
    }
    if (object.open) {
      std::vector<std::string> names;
      for (const auto& property : object.properties) names.push_back(property.name);
      const Node member = r.sequence({v.key(any_but(names)), r.call(object.additional)});
      edges.push_back({2 * n, 2 * n + 1, member});
      edges.push_back({2 * n + 1, 2 * n + 1, r.sequence({v.comma(), member})});
    }
    edges.push_back({2 * n, end, r.literal("}")});
    edges.push_back({2 * n + 1, end, v.close('}')});
    return r.sequence({v.open('{'), r.graph(end + 1, std::move(edges), {end})});
  }

  const Values& v_;
  Rules& r_;
  const Json& root_;
  std::string at_;
  std::map<std::vector<std::pair<const Json*, bool>>, Rules::Rule> known_;
  SchemaSpreader spreader_;
  bool bare_texts_ = false;
};

JsonSchema::JsonSchema(const Values& values, const Json& schema, std::string at)
    : compiler_(std::make_unique<Compiler>(values, schema, std::move(at))) {}
JsonSchema::~JsonSchema() = default;
Rules::Rule JsonSchema::rule() { return compiler_->compile_root(); }
ObjectShape JsonSchema::object(bool bare_texts) { return compiler_->root_object(bare_texts); }

Json read_schema(std::string_view text) {
  if (text.size() > kMostBytes)
    throw GrammarError("grammar_too_large", "", fmt::format("the schema has {} bytes, at most {} are taken", text.size(), kMostBytes));
  size_t depth = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (inside && c == '\\') ++i;
    else if (c == '"') inside = !inside;
    else if (!inside && (c == '{' || c == '[') && ++depth > kMostSchemaNesting)
      throw GrammarError("grammar_too_large", "", fmt::format("the schema is nested more than {} deep", kMostSchemaNesting));
    else if (!inside && (c == '}' || c == ']') && depth > 0) --depth;
  }
  Json schema = Json::parse(text, nullptr, false);
  if (schema.is_discarded()) throw GrammarError("invalid_schema", "", "the schema is no valid JSON");
  return schema;
}

}  // namespace loraine::grammar
