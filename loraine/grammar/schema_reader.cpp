// See schema_reader.h.
#include "loraine/grammar/schema_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "loraine/grammar/formats.h"

namespace loraine::grammar {
namespace {

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

void check_keywords(const SchemaPlace& place) {
  for (const Unbuilt& unbuilt : kUnbuilt) {
    const auto found = place.schema->find(unbuilt.name);
    if (found == place.schema->end()) continue;
    if (unbuilt.idle && *found == Json::parse(unbuilt.idle)) continue;
    unsupported_schema(place.path + "/" + unbuilt.name, fmt::format("`{}` is not supported", unbuilt.name));
  }
}

SchemaPlaces list(const SchemaPlace& place, const char* key) {
  const Json& value = (*place.schema)[key];
  if (!value.is_array() || value.empty()) invalid_schema(place.path + "/" + key, "is no list of schemas");
  SchemaPlaces out;
  for (size_t i = 0; i < value.size(); ++i) out.push_back(place.in(key, i));
  return out;
}

}  // namespace

void invalid_schema(const std::string& path, const std::string& what) { throw GrammarError("invalid_schema", path, what); }
void unsupported_schema(const std::string& path, const std::string& what) { throw GrammarError("unsupported_schema", path, what); }

void too_many_parts(const std::string& path) {
  throw GrammarError("grammar_too_large", path, fmt::format("the schema has more than {} parts", kMostSchemaParts));
}

unsigned type_of(const Json& value) {
  if (value.is_null()) return kNull;
  if (value.is_boolean()) return kBoolean;
  if (value.is_object()) return kObject;
  if (value.is_array()) return kArray;
  if (value.is_string()) return kString;
  return is_whole(value) ? kInteger : kFraction;
}

SchemaPlace SchemaSpreader::target(const SchemaPlace& place) const {
  const Json& value = (*place.schema)["$ref"];
  const std::string path = place.path + "/$ref";
  if (!value.is_string()) invalid_schema(path, "is no text");
  const std::string& ref = value.get_ref<const std::string&>();
  if (ref.empty() || ref[0] != '#')
    unsupported_schema(path,
                       fmt::format("`{}` is in another document; only references into the schema itself are followed", ref.substr(0, 100)));
  if (ref.size() > 1 && ref[1] != '/')
    unsupported_schema(path, fmt::format("`{}` is an anchor; write the way from the root, as #/$defs/name", ref.substr(0, 100)));
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
    else invalid_schema(path, fmt::format("`{}` is not in the schema", ref.substr(0, 100)));
    part.clear();
  }
  return {at, at_ + ref.substr(1)};
}

void SchemaSpreader::spread(const SchemaPlace& place, SchemaSet& out, std::vector<const Json*> path) {
  const Json& s = *place.schema;
  if (s.is_boolean()) {
    out.never |= !s.get<bool>();
    return;
  }
  if (!s.is_object()) invalid_schema(place.path, "is no schema: an object, true or false");
  if (place.own_only) {
    out.schemas.push_back(place);
    return;
  }
  if (std::find(path.begin(), path.end(), &s) != path.end())
    unsupported_schema(place.path, "refers to itself with nothing in between, so it has no end");
  path.push_back(&s);
  if (path.size() > 200) throw GrammarError("grammar_too_large", place.path, "references and allOf are nested more than 200 deep");
  if (++parts_ > kMostSchemaParts * 8) too_many_parts(place.path);
  check_keywords(place);
  if (s.contains("$ref")) spread(target(place), out, path);
  if (s.contains("allOf"))
    for (const SchemaPlace& each : list(place, "allOf")) spread(each, out, path);
  for (const char* key : {"anyOf", "oneOf"})
    if (s.contains(key)) out.choices.emplace_back(place.path + "/" + key, list(place, key));
  const auto same = [&](const SchemaPlace& other) { return other.schema == &s; };
  if (std::none_of(out.schemas.begin(), out.schemas.end(), same)) out.schemas.push_back({&s, place.path, true});
}

bool says_nothing(const Json& s) {
  for (const char* key :
       {"type", "enum", "const", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems",
        "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
    if (s.contains(key)) return false;
  return true;
}

unsigned types_in(const SchemaPlaces& schemas) {
  unsigned types = kAll, told = 0;
  bool given = false;
  for (const SchemaPlace& place : schemas) {
    const Json& s = *place.schema;
    if (s.contains("type")) {
      const Json& type = s["type"];
      unsigned here = 0;
      const auto add = [&](const Json& name) {
        const unsigned bits = name.is_string() ? types_of(name.get<std::string>()) : 0;
        if (!bits) invalid_schema(place.path + "/type", fmt::format("`{}` is no type", name.dump().substr(0, 40)));
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

std::optional<std::vector<Json>> listed(const SchemaPlaces& schemas) {
  std::optional<std::vector<Json>> out;
  const auto keep = [&](const std::vector<Json>& values) {
    if (!out) {
      out = values;
      return;
    }
    std::erase_if(*out, [&](const Json& value) { return std::find(values.begin(), values.end(), value) == values.end(); });
  };
  for (const SchemaPlace& place : schemas) {
    if (place.schema->contains("enum")) {
      const Json& values = (*place.schema)["enum"];
      if (!values.is_array() || values.empty()) invalid_schema(place.path + "/enum", "is no list of values");
      keep(values.get<std::vector<Json>>());
    }
    if (place.schema->contains("const")) keep({(*place.schema)["const"]});
  }
  return out;
}

bool satisfies(const Json& value, const SchemaPlaces& schemas) {
  if (value.is_structured()) {
    for (const SchemaPlace& place : schemas)
      for (const char* key : {"properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems"})
        if (place.schema->contains(key)) unsupported_schema(place.path + "/" + key, "beside listed objects or lists it is not supported");
    return true;
  }
  if (value.is_string()) {
    const std::string& text = value.get_ref<const std::string&>();
    const auto size = static_cast<int64_t>(characters_of(text).size());
    const TextLimits limits = text_limits(schemas);
    return size >= limits.least && (limits.most < 0 || size <= limits.most) && (!limits.characters || limits.characters->matches(text));
  }
  if (!value.is_number()) return true;
  const double d = value.get<double>();
  for (const SchemaPlace& place : schemas) {
    const auto limit = [&](const char* key, const auto& holds) {
      return !place.schema->contains(key) || holds(d, number_at(place, key).get<double>());
    };
    if (!limit("minimum", std::greater_equal<>()) || !limit("maximum", std::less_equal<>()) ||
        !limit("exclusiveMinimum", std::greater<>()) || !limit("exclusiveMaximum", std::less<>()))
      return false;
  }
  return true;
}

TextLimits text_limits(const SchemaPlaces& schemas) {
  TextLimits out;
  const auto keep = [&](CharacterAutomaton a) { out.characters = out.characters ? both(*out.characters, a) : std::move(a); };
  for (const SchemaPlace& place : schemas) {
    const Json& s = *place.schema;
    if (s.contains("minLength")) out.least = std::max(out.least, count_at(place, "minLength"));
    if (s.contains("maxLength")) {
      const int64_t most = count_at(place, "maxLength");
      out.most = out.most < 0 ? most : std::min(out.most, most);
    }
    for (const char* key : {"pattern", "format"}) {
      if (!s.contains(key)) continue;
      const std::string path = place.path + "/" + key;
      if (!s[key].is_string()) invalid_schema(path, "is no text");
      const std::string& value = s[key].get_ref<const std::string&>();
      try {
        if (key[0] == 'p') {
          keep(parse_regex(value));
        } else {
          const CharacterAutomaton* format = format_named(value);
          if (!format)
            unsupported_schema(path, fmt::format("the format `{}` is not supported; known: {}", value.substr(0, 40), known_formats()));
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

int64_t count_at(const SchemaPlace& place, const char* key) {
  const Json& value = (*place.schema)[key];
  if (!value.is_number() || !is_whole(value) || value.get<double>() < 0)
    invalid_schema(place.path + "/" + key, "is no whole number from 0 on");
  return static_cast<int64_t>(std::min(value.get<double>(), 2e9));
}

const Json& number_at(const SchemaPlace& place, const char* key) {
  const Json& value = (*place.schema)[key];
  if (!value.is_number()) invalid_schema(place.path + "/" + key, "is no number");
  return value;
}

std::optional<int64_t> whole_bound(const Json& value, bool lower, bool exclusive, const std::string& path) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    if (lower) unsupported_schema(path, "is beyond 64 bits");
    return {};
  }
  int64_t whole = 0;
  if (value.is_number_integer()) {
    whole = value.get<int64_t>();
  } else {
    const double d = value.get<double>();
    if (!(std::fabs(d) < 9.2e18)) {
      if ((d > 0) == lower) unsupported_schema(path, "is beyond 64 bits");
      return {};
    }
    const double inside = lower ? std::ceil(d) : std::floor(d);
    if (inside != d) exclusive = false;
    whole = static_cast<int64_t>(inside);
  }
  if (!exclusive) return whole;
  if (lower ? whole == std::numeric_limits<int64_t>::max() : whole == std::numeric_limits<int64_t>::min())
    unsupported_schema(path, "is beyond 64 bits");
  return lower ? whole + 1 : whole - 1;
}

}  // namespace loraine::grammar
