// See json_schema.h. A value has to satisfy a set of schemas at once (a schema, what its $ref names, the members of its allOf): the set is
// spread out, then becomes one rule for each choice of anyOf and oneOf.
#include "loraine/grammar/json_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <set>

#include "loraine/grammar/formats.h"

namespace loraine::grammar {
namespace {

constexpr int kMostDepth = 32;
constexpr size_t kMostSchemaParts = 4096, kMostBytes = 256 << 10, kMostSchemaNesting = 256;

constexpr unsigned kNull = 1, kBoolean = 2, kObject = 4, kArray = 8, kString = 16, kInteger = 32, kFraction = 64, kAll = 127;

unsigned types_of(const std::string& name) {
  if (name == "null") return kNull;
  if (name == "boolean") return kBoolean;
  if (name == "object") return kObject;
  if (name == "array") return kArray;
  if (name == "string") return kString;
  if (name == "integer") return kInteger;
  if (name == "number") return kInteger | kFraction;
  return 0;
}

bool is_whole(const Json& value) {
  if (value.is_number_integer()) return true;
  return value.is_number() && std::floor(value.get<double>()) == value.get<double>();
}

unsigned type_of(const Json& value) {
  if (value.is_null()) return kNull;
  if (value.is_boolean()) return kBoolean;
  if (value.is_object()) return kObject;
  if (value.is_array()) return kArray;
  if (value.is_string()) return kString;
  return is_whole(value) ? kInteger : kFraction;
}

// Keywords that constrain and are not built; with the value that makes them say nothing, if there is one.
struct Unbuilt {
  const char* name;
  const char* idle;
};
constexpr Unbuilt kUnbuilt[] = {{"not", nullptr},
                                {"if", nullptr},
                                {"then", nullptr},
                                {"else", nullptr},
                                {"dependentSchemas", "{}"},
                                {"dependentRequired", "{}"},
                                {"dependencies", "{}"},
                                {"patternProperties", "{}"},
                                {"propertyNames", "true"},
                                {"minProperties", "0"},
                                {"maxProperties", nullptr},
                                {"unevaluatedProperties", "true"},
                                {"unevaluatedItems", "true"},
                                {"additionalItems", "true"},
                                {"contains", nullptr},
                                {"minContains", nullptr},
                                {"maxContains", nullptr},
                                {"uniqueItems", "false"},
                                {"multipleOf", nullptr},
                                {"divisibleBy", nullptr},
                                {"disallow", nullptr},
                                {"extends", nullptr},
                                {"$dynamicRef", nullptr},
                                {"$recursiveRef", nullptr}};

// A schema and where it stands.
struct Place {
  const Json* schema;
  std::string path;
  bool own_only = false;  // its $ref, allOf, anyOf and oneOf were looked at
  Place in(const std::string& key) const { return {&(*schema)[key], path + "/" + escaped(key)}; }
  Place in(const std::string& key, size_t i) const { return {&(*schema)[key][i], fmt::format("{}/{}/{}", path, escaped(key), i)}; }
  static std::string escaped(const std::string& key) {
    std::string out;
    for (const char c : key)
      if (c == '~') out += "~0";
      else if (c == '/') out += "~1";
      else out += c;
    return out;
  }
};

[[noreturn]] void invalid(const std::string& path, const std::string& what) { throw GrammarError("invalid_schema", path, what); }
[[noreturn]] void unsupported(const std::string& path, const std::string& what) { throw GrammarError("unsupported_schema", path, what); }

const Json kTrue = true, kFalse = false;

// A bound as a whole number, rounded to the inside; none where it is beyond 64 bits on its own side.
std::optional<int64_t> bound(const Json& value, bool lower, bool exclusive, const std::string& path) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    if (lower) unsupported(path, "is beyond 64 bits");
    return {};
  }
  int64_t whole = 0;
  if (value.is_number_integer()) {
    whole = value.get<int64_t>();
  } else {
    const double d = value.get<double>();
    if (!(std::fabs(d) < 9.2e18)) {
      if ((d > 0) == lower) unsupported(path, "is beyond 64 bits");
      return {};
    }
    const double inside = lower ? std::ceil(d) : std::floor(d);
    if (inside != d) exclusive = false;
    whole = static_cast<int64_t>(inside);
  }
  if (!exclusive) return whole;
  if (lower ? whole == std::numeric_limits<int64_t>::max() : whole == std::numeric_limits<int64_t>::min())
    unsupported(path, "is beyond 64 bits");
  return lower ? whole + 1 : whole - 1;
}

}  // namespace

class JsonSchema::Compiler {
 public:
  using Node = Rules::Node;
  Compiler(const Values& values, const Json& root, std::string at) : v_(values), r_(values.rules()), root_(root), at_(std::move(at)) {}

  Rules::Rule compile_root() { return compile({{&root_, at_}}, 0); }

  ObjectShape root_object(bool bare_texts) {
    bare_texts_ = bare_texts;
    Set set;
    spread({&root_, at_}, set, {});
    if (!set.choices.empty()) unsupported(set.choices[0].first, "the arguments of a tool are one object, not a choice");
    const unsigned types = types_in(set.schemas);
    if (set.never || !(types & kObject)) unsupported(at_, "the arguments of a tool are an object");
    return shape(set.schemas, 1);
  }

 private:
  using Places = std::vector<Place>;
  // What a value has to satisfy, spread out.
  struct Set {
    Places schemas;                                       // all of them, by their own keywords
    std::vector<std::pair<std::string, Places>> choices;  // one of each
    bool never = false;
  };

  // The count of an array or a text; from 0.
  static int64_t count(const Place& place, const char* key) {
    const Json& value = (*place.schema)[key];
    if (!value.is_number() || !is_whole(value) || value.get<double>() < 0) invalid(place.path + "/" + key, "is no whole number from 0 on");
    return static_cast<int64_t>(std::min(value.get<double>(), 2e9));
  }

  Place target(const Place& place) const {
    const Json& value = (*place.schema)["$ref"];
    const std::string path = place.path + "/$ref";
    if (!value.is_string()) invalid(path, "is no text");
    const std::string& ref = value.get_ref<const std::string&>();
    if (ref.empty() || ref[0] != '#')
      unsupported(path,
                  fmt::format("`{}` is in another document; only references into the schema itself are followed", ref.substr(0, 100)));
    if (ref.size() > 1 && ref[1] != '/')
      unsupported(path, fmt::format("`{}` is an anchor; write the way from the root, as #/$defs/name", ref.substr(0, 100)));
    const Json* at = &root_;
    std::string part;
    for (size_t i = 2; i <= ref.size() && ref.size() > 1; ++i) {
      if (i < ref.size() && ref[i] != '/') {
        const auto hex = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) ? c - '0' : (c | 32) - 'a' + 10; };
        const bool escape = ref[i] == '%' && i + 2 < ref.size() && std::isxdigit(static_cast<unsigned char>(ref[i + 1])) &&
                            std::isxdigit(static_cast<unsigned char>(ref[i + 2]));
        if (escape) {
          part += static_cast<char>(hex(ref[i + 1]) * 16 + hex(ref[i + 2]));
          i += 2;
        } else {
          part += ref[i];
        }
        continue;
      }
      std::string key;
      for (size_t k = 0; k < part.size(); ++k)
        if (part[k] == '~' && k + 1 < part.size() && (part[k + 1] == '0' || part[k + 1] == '1')) key += part[++k] == '0' ? '~' : '/';
        else key += part[k];
      const bool index = at->is_array() && !key.empty() && key.size() < 7 && key.find_first_not_of("0123456789") == std::string::npos;
      if (at->is_object() && at->contains(key)) at = &(*at)[key];
      else if (index && std::stoul(key) < at->size()) at = &(*at)[std::stoul(key)];
      else invalid(path, fmt::format("`{}` is not in the schema", ref.substr(0, 100)));
      part.clear();
    }
    return {at, at_ + ref.substr(1)};
  }

  void check_keywords(const Place& place) const {
    for (const Unbuilt& unbuilt : kUnbuilt) {
      const auto found = place.schema->find(unbuilt.name);
      if (found == place.schema->end()) continue;
      if (unbuilt.idle && *found == Json::parse(unbuilt.idle)) continue;
      unsupported(place.path + "/" + unbuilt.name, fmt::format("`{}` is not supported", unbuilt.name));
    }
  }

  Places list(const Place& place, const char* key) const {
    const Json& value = (*place.schema)[key];
    if (!value.is_array() || value.empty()) invalid(place.path + "/" + key, "is no list of schemas");
    Places out;
    for (size_t i = 0; i < value.size(); ++i) out.push_back(place.in(key, i));
    return out;
  }

  // path: schemas that are being spread, one within the other.
  void spread(const Place& place, Set& out, std::vector<const Json*> path) {
    const Json& s = *place.schema;
    if (s.is_boolean()) {
      out.never |= !s.get<bool>();
      return;
    }
    if (!s.is_object()) invalid(place.path, "is no schema: an object, true or false");
    if (place.own_only) {
      out.schemas.push_back(place);
      return;
    }
    if (std::find(path.begin(), path.end(), &s) != path.end())
      unsupported(place.path, "refers to itself with nothing in between, so it has no end");
    path.push_back(&s);
    if (path.size() > 200) throw GrammarError("grammar_too_large", place.path, "references and allOf are nested more than 200 deep");
    if (++parts_ > kMostSchemaParts * 8) too_many(place.path);
    check_keywords(place);
    if (s.contains("$ref")) spread(target(place), out, path);
    if (s.contains("allOf"))
      for (const Place& each : list(place, "allOf")) spread(each, out, path);
    for (const char* key : {"anyOf", "oneOf"})
      if (s.contains(key)) out.choices.emplace_back(place.path + "/" + key, list(place, key));
    const auto same = [&](const Place& other) { return other.schema == &s; };
    if (std::none_of(out.schemas.begin(), out.schemas.end(), same)) out.schemas.push_back({&s, place.path, true});
  }

  [[noreturn]] static void too_many(const std::string& path) {
    throw GrammarError("grammar_too_large", path, fmt::format("the schema has more than {} parts", kMostSchemaParts));
  }

  Rules::Rule compile(const Places& places, int depth) {
    std::vector<std::pair<const Json*, bool>> key;
    for (const Place& place : places) key.emplace_back(place.schema, place.own_only);
    std::sort(key.begin(), key.end());
    key.erase(std::unique(key.begin(), key.end()), key.end());
    if (const auto found = known_.find(key); found != known_.end()) return found->second;
    const std::string& path = places[0].path;
    if (depth > kMostDepth)
      throw GrammarError("grammar_too_large", path, fmt::format("the schema is nested more than {} deep", kMostDepth));
    if (known_.size() >= kMostSchemaParts) too_many(path);
    const Rules::Rule rule = r_.add(path);
    known_[key] = rule;
    Set set;
    for (const Place& place : places) spread(place, set, {});
    r_.define(rule, set.never ? r_.never() : set.choices.empty() ? plain(set.schemas, depth) : chosen(set, depth));
    return rule;
  }

  Node chosen(const Set& set, int depth) {
    std::vector<Places> all{set.schemas};
    for (const auto& [path, alternatives] : set.choices) {
      std::vector<Places> more;
      if (all.size() * alternatives.size() > 1024) too_many(path);
      for (const Places& before : all)
        for (const Place& alternative : alternatives) {
          more.push_back(before);
          more.back().push_back(alternative);
        }
      all = std::move(more);
    }
    std::vector<Node> nodes;
    for (Places& places : all) {
      std::rotate(places.begin(), places.end() - 1, places.end());  // the alternative names the rule
      // schemas that say nothing themselves make no difference
      std::erase_if(places, [&](const Place& place) { return place.own_only && says_nothing(*place.schema); });
      nodes.push_back(r_.call(compile(places, depth + 1)));
    }
    return r_.choice(std::move(nodes));
  }

  static bool says_nothing(const Json& s) {
    for (const char* key :
         {"type", "enum", "const", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems",
          "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
      if (s.contains(key)) return false;
    return true;
  }

  unsigned types_in(const Places& schemas) const {
    unsigned types = kAll, told = 0;
    bool given = false;
    for (const Place& place : schemas) {
      const Json& s = *place.schema;
      if (s.contains("type")) {
        const Json& type = s["type"];
        unsigned here = 0;
        const auto add = [&](const Json& name) {
          const unsigned bits = name.is_string() ? types_of(name.get<std::string>()) : 0;
          if (!bits) invalid(place.path + "/type", fmt::format("`{}` is no type", name.dump().substr(0, 40)));
          here |= bits;
        };
        if (type.is_array()) std::for_each(type.begin(), type.end(), add);
        else add(type);
        types &= here;
        given = true;
      }
      if (s.contains("enum") || s.contains("const")) given = true;
      const auto any_of = [&](std::initializer_list<const char*> keys) {
        return std::any_of(keys.begin(), keys.end(), [&](const char* key) { return s.contains(key); });
      };
      if (any_of({"properties", "required", "additionalProperties"})) told |= kObject;
      if (any_of({"items", "prefixItems", "minItems", "maxItems"})) told |= kArray;
      if (any_of({"minLength", "maxLength", "pattern", "format"})) told |= kString;
      if (any_of({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})) told |= kInteger;
    }
    return given || !told ? types : told;  // keywords of one type say which is meant where `type` is left out
  }

  Node plain(const Places& schemas, int depth) {
    const unsigned types = types_in(schemas);
    if (const auto values = listed(schemas)) {
      std::vector<Node> nodes;
      for (const Json& value : *values)
        if ((types & type_of(value)) && satisfies(value, schemas)) nodes.push_back(v_.literal(value));
      return r_.choice(std::move(nodes));
    }
    if (std::all_of(schemas.begin(), schemas.end(), [](const Place& place) { return says_nothing(*place.schema); })) return v_.any();
    std::vector<Node> nodes;
    if (types & kObject) nodes.push_back(object(schemas, depth));
    if (types & kArray) nodes.push_back(array(schemas, depth));
    if (types & kString) nodes.push_back(text(schemas));
    if (types & (kInteger | kFraction)) nodes.push_back(number(schemas, types));
    if (types & kBoolean) nodes.insert(nodes.end(), {v_.boolean(true), v_.boolean(false)});
    if (types & kNull) nodes.push_back(v_.null());
    return r_.choice(std::move(nodes));
  }

  // The values of enum and const, those that are in all of them.
  static std::optional<std::vector<Json>> listed(const Places& schemas) {
    std::optional<std::vector<Json>> out;
    const auto keep = [&](const std::vector<Json>& values) {
      if (!out) {
        out = values;
        return;
      }
      std::erase_if(*out, [&](const Json& value) { return std::find(values.begin(), values.end(), value) == values.end(); });
    };
    for (const Place& place : schemas) {
      if (place.schema->contains("enum")) {
        const Json& values = (*place.schema)["enum"];
        if (!values.is_array() || values.empty()) invalid(place.path + "/enum", "is no list of values");
        keep(values.get<std::vector<Json>>());
      }
      if (place.schema->contains("const")) keep({(*place.schema)["const"]});
    }
    return out;
  }

  // Whether a listed value has what stands beside the list.
  bool satisfies(const Json& value, const Places& schemas) const {
    if (value.is_structured()) {
      for (const Place& place : schemas)
        for (const char* key : {"properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems"})
          if (place.schema->contains(key)) unsupported(place.path + "/" + key, "beside listed objects or lists it is not supported");
      return true;
    }
    if (value.is_string()) {
      const std::string& text = value.get_ref<const std::string&>();
      const auto size = static_cast<int64_t>(characters_of(text).size());
      const Text limits = text_limits(schemas);
      return size >= limits.least && (limits.most < 0 || size <= limits.most) && (!limits.characters || limits.characters->matches(text));
    }
    if (!value.is_number()) return true;
    const double d = value.get<double>();
    for (const Place& place : schemas) {
      const auto limit = [&](const char* key, const auto& holds) {
        return !place.schema->contains(key) || holds(d, number_at(place, key).get<double>());
      };
      if (!limit("minimum", std::greater_equal<>()) || !limit("maximum", std::less_equal<>()) ||
          !limit("exclusiveMinimum", std::greater<>()) || !limit("exclusiveMaximum", std::less<>()))
        return false;
    }
    return true;
  }

  static const Json& number_at(const Place& place, const char* key) {
    const Json& value = (*place.schema)[key];
    if (!value.is_number()) invalid(place.path + "/" + key, "is no number");
    return value;
  }

  struct Text {
    int64_t least = 0, most = -1;
    std::optional<CharacterAutomaton> characters;
  };
  Text text_limits(const Places& schemas) const {
    Text out;
    const auto keep = [&](CharacterAutomaton a) { out.characters = out.characters ? both(*out.characters, a) : std::move(a); };
    for (const Place& place : schemas) {
      const Json& s = *place.schema;
      if (s.contains("minLength")) out.least = std::max(out.least, count(place, "minLength"));
      if (s.contains("maxLength")) {
        const int64_t most = count(place, "maxLength");
        out.most = out.most < 0 ? most : std::min(out.most, most);
      }
      for (const char* key : {"pattern", "format"}) {
        if (!s.contains(key)) continue;
        const std::string path = place.path + "/" + key;
        if (!s[key].is_string()) invalid(path, "is no text");
        const std::string& value = s[key].get_ref<const std::string&>();
        try {
          if (key[0] == 'p') {
            keep(parse_regex(value));
          } else {
            const CharacterAutomaton* format = format_named(value);
            if (!format)
              unsupported(path, fmt::format("the format `{}` is not supported; known: {}", value.substr(0, 40), known_formats()));
            keep(*format);
          }
        } catch (const GrammarError& error) {
          if (!error.path.empty()) throw;
          throw GrammarError(error.code, path, error.what());
        }
      }
    }
    return out;
  }

  Node text(const Places& schemas) const {
    Text limits = text_limits(schemas);
    if (limits.most >= 0 && limits.most < limits.least) return r_.never();
    if (!limits.characters) return v_.text(limits.least, limits.most);
    if (limits.least > 0 || limits.most >= 0) limits.characters = both(*limits.characters, of_length(limits.least, limits.most));
    return v_.text(*limits.characters);
  }

  Node number(const Places& schemas, unsigned types) const {
    std::optional<int64_t> least, most;
    for (const Place& place : schemas)
      for (const char* key : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}) {
        if (!place.schema->contains(key)) continue;
        const std::string path = place.path + "/" + key;
        const Json& value = number_at(place, key);
        if (types & kFraction) unsupported(path, "limits are supported for integers only");
        const bool lower = std::string_view(key).ends_with("inimum"), exclusive = key[0] == 'e';
        const auto here = bound(value, lower, exclusive, path);
        if (!here) continue;
        if (lower) least = std::max(least.value_or(*here), *here);
        else most = std::min(most.value_or(*here), *here);
      }
    return types & kFraction ? v_.number() : v_.integer(least, most);
  }

  Node array(const Places& schemas, int depth) {
    int64_t least = 0, most = -1;
    size_t prefix = 0;
    for (const Place& place : schemas) {
      const Json& s = *place.schema;
      const auto limit = [&](int64_t n) { most = most < 0 ? n : std::min(most, n); };
      if (s.contains("minItems")) least = std::max(least, count(place, "minItems"));
      if (s.contains("maxItems")) limit(count(place, "maxItems"));
      if (s.contains("prefixItems")) {
        if (!s["prefixItems"].is_array()) invalid(place.path + "/prefixItems", "is no list of schemas");
        prefix = std::max(prefix, s["prefixItems"].size());
      }
      if (s.contains("items") && s["items"].is_array())
        unsupported(place.path + "/items", "a list is the old spelling of prefixItems; write that");
    }
    if (least > 100'000) throw GrammarError("grammar_too_large", schemas[0].path + "/minItems", "at most 100000 items can be asked for");
    // The schemas of item i; of any after the prefix.
    const auto item = [&](size_t i) {
      Places out;
      for (const Place& place : schemas) {
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

  ObjectShape shape(const Places& schemas, int depth) {
    ObjectShape out;
    std::vector<std::string> names;
    std::set<std::string> required, seen;
    bool closed = false, told = false, named = false;
    const auto name = [&](const std::string& key) {
      if (seen.insert(key).second) names.push_back(key);
    };
    for (const Place& place : schemas) {
      const Json& s = *place.schema;
      if (s.contains("properties")) {
        if (!s["properties"].is_object()) invalid(place.path + "/properties", "is no object");
        named = true;
        for (const auto& [key, schema] : s["properties"].items()) name(key);
      }
      if (s.contains("additionalProperties")) {
        const Json& value = s["additionalProperties"];
        if (!value.is_boolean() && !value.is_object()) invalid(place.path + "/additionalProperties", "is no schema");
        told = true;
        closed |= value == kFalse;
      }
    }
    for (const Place& place : schemas) {
      if (!place.schema->contains("required")) continue;
      const Json& list = (*place.schema)["required"];
      if (!list.is_array()) invalid(place.path + "/required", "is no list of names");
      for (const Json& key : list) {
        if (!key.is_string()) invalid(place.path + "/required", "is no list of names");
        required.insert(key.get<std::string>());
        name(key.get<std::string>());
      }
    }
    Places additional;
    for (const Place& place : schemas)
      if (place.schema->contains("additionalProperties")) additional.push_back(place.in("additionalProperties"));
    out.open = !closed && (told || !named);  // properties alone: those and no others
    if (out.open)
      out.additional = compile(additional.empty() ? Places{{&kTrue, schemas[0].path + "/additionalProperties"}} : additional, depth + 1);
    for (const std::string& key : names) {
      Places places;
      for (const Place& place : schemas) {
        const Json& s = *place.schema;
        if (s.contains("properties") && s["properties"].contains(key))
          places.push_back({&s["properties"][key], place.path + "/properties/" + Place::escaped(key)});
        else if (s.contains("additionalProperties")) places.push_back(place.in("additionalProperties"));
      }
      if (places.empty()) places.push_back({&kTrue, schemas[0].path + "/properties/" + Place::escaped(key)});
      out.properties.push_back(
          {key, compile(places, depth + 1), required.contains(key), bare_texts_ ? bare_text(places, 0) : std::nullopt});
    }
    return out;
  }

  // What the texts that satisfy these hold, where nothing else but null does.
  std::optional<CharacterAutomaton> bare_text(const Places& places, int depth) {
    Set set;
    for (const Place& place : places) spread(place, set, {});
    if (set.never || depth > kMostDepth || set.choices.size() > 1) return {};
    if (set.choices.empty()) return bare_text(set.schemas);
    std::optional<CharacterAutomaton> out;
    for (const Place& alternative : set.choices[0].second) {
      Places one = set.schemas;
      one.push_back(alternative);
      const Place null_too{alternative.schema, alternative.path};
      Set alone;
      spread(null_too, alone, {});
      if (alone.choices.empty() && !alone.never && types_in(alone.schemas) == kNull) continue;
      const auto text = bare_text(one, depth + 1);
      if (!text) return {};
      out = out ? either(*out, *text) : text;
    }
    return out;
  }

  std::optional<CharacterAutomaton> bare_text(const Places& schemas) const {
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
    const Text limits = text_limits(schemas);
    CharacterAutomaton length = of_length(limits.least, limits.most);
    return limits.characters ? both(*limits.characters, length) : length;
  }

  Node object(const Places& schemas, int depth) {
    const ObjectShape object = shape(schemas, depth);
    if (object.properties.empty() && object.open &&
        std::none_of(schemas.begin(), schemas.end(), [](const Place& p) { return p.schema->contains("additionalProperties"); }))
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
  size_t parts_ = 0;
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
