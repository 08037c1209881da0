// object.name, object[key] and object[a:b] as Jinja's sandbox sees them. Called by the evaluator and the filters.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "loraine/text/jinja/builtins.h"
#include "loraine/text/jinja/markup.h"

namespace loraine::jinja {
namespace {

const std::set<std::string> kStringMethods = {
    "capitalize",   "casefold", "center",   "count",   "encode",    "endswith",   "expandtabs",   "find",      "format",    "format_map",
    "index",        "isalnum",  "isalpha",  "isascii", "isdecimal", "isdigit",    "isidentifier", "islower",   "isnumeric", "isprintable",
    "isspace",      "istitle",  "isupper",  "join",    "ljust",     "lower",      "lstrip",       "maketrans", "partition", "removeprefix",
    "removesuffix", "replace",  "rfind",    "rindex",  "rjust",     "rpartition", "rsplit",       "rstrip",    "split",     "splitlines",
    "startswith",   "strip",    "swapcase", "title",   "translate", "upper",      "zfill"};
const std::set<std::string> kListRefused = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"};
const std::set<std::string> kDictAllowed = {"get", "items", "keys", "values", "copy"};
const std::set<std::string> kDictRefused = {"clear", "pop", "popitem", "setdefault", "update"};

struct BoundMethod : CallableObject {
  Value self;
  std::string name;
  Value call(Engine& engine, Args& args) override {
    if (self.is_string() && name == "format") return brace_format(&engine, self, args);
    return call_method(self, name, args);
  }
  std::string class_name() const override { return "builtin_function_or_method"; }
};

bool dunder(const std::string& name) { return name.size() > 4 && name.starts_with("__") && name.ends_with("__"); }

std::string object_repr(const Value& value) {
  if (value.type == Type::None) return "None";
  if (value.type == Type::Namespace) return "jinja2.utils.Namespace object";
  return type_name(value) + " object";
}

Value missing(const Value& object, const std::string& name) {
  return undefined(fmt::format("'{}' has no attribute {}", object_repr(object), repr(string(name))));
}

Value refused(const Value& object, const std::string& name) {
  return undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(object)), true);
}

Value bound(const Value& self, const std::string& name) {
  auto method = std::make_shared<BoundMethod>();
  method->self = self;
  method->name = name;
  method->depth = self.o ? self.o->depth + 1 : 1;
  if (method->depth > kMaxValueDepth) fail("RecursionError", "values nested too deep");
  Value v;
  v.type = Type::Object;
  v.o = method;
  return v;
}

// Only what Python's getattr finds; nullopt otherwise.
std::optional<Value> python_attribute(Engine* engine, const Value& object, const std::string& name) {
  if (dunder(name)) return refused(object, name);
  if (object.type == Type::Namespace) {
    if (const Value* value = as_dict(object).find(name)) return *value;
    return std::nullopt;
  }
  if (object.type == Type::Object && engine) {
    if (auto value = static_cast<CallableObject&>(*object.o).attribute(*engine, name)) return value;
    return std::nullopt;
  }
  if (object.type == Type::Tuple && name != "count" && name != "index") {
    const auto& sequence = static_cast<const SequenceObject&>(*object.o);
    if (sequence.view && name == "grouper") return sequence.items[0];
    if (sequence.view && name == "list") return sequence.items[1];
  }
  if (object.is_integral() && (name == "real" || name == "numerator"))
    return object.type == Type::Bool ? integer(object.integer()) : object;
  if (object.is_integral() && name == "imag") return integer(0);
  if (object.type == Type::Float && name == "real") return object;
  switch (method_access(object, name)) {
    case Access::allowed: return bound(object, name);
    case Access::refused: return refused(object, name);
    case Access::missing: break;
  }
  return std::nullopt;
}

std::optional<Value> python_item(const Value& object, const Value& key) {
  if (object.type == Type::Dict) {
    if (const Value* value = as_dict(object).find(key)) return *value;
    return std::nullopt;
  }
  if (!key.is_integral()) return std::nullopt;
  int64_t k = key.integer();
  if (object.is_string()) {
    const std::string& text = object.text();
    charge(static_cast<int64_t>(text.size() / 16));
    int64_t n = count_code_points(text);
    if (k < 0) k += n;
    if (k < 0 || k >= n) return std::nullopt;
    size_t at = 0;
    for (;; ++at)
      if ((text[at] & 0xc0) != 0x80 && k-- == 0) break;
    size_t end = at + 1;
    while (end < text.size() && (text[end] & 0xc0) == 0x80) ++end;
    return string(text.substr(at, end - at), is_safe(object));
  }
  if (object.type == Type::List || object.type == Type::Tuple || object.type == Type::Range) {
    const auto& items = object.items();
    if (k < 0) k += static_cast<int64_t>(items.size());
    if (k < 0 || k >= static_cast<int64_t>(items.size())) return std::nullopt;
    return items[static_cast<size_t>(k)];
  }
  return std::nullopt;
}

}  // namespace

Access method_access(const Value& self, const std::string& name) {
  auto among = [&](const std::set<std::string>& allowed, const std::set<std::string>& forbidden) {
    return allowed.count(name) ? Access::allowed : forbidden.count(name) ? Access::refused : Access::missing;
  };
  static const std::set<std::string> kNone, kSequence = {"copy", "count", "index"}, kTuple = {"count", "index"}, kFloat = {"is_integer"};
  switch (self.type) {
    case Type::String: return among(kStringMethods, kNone);
    case Type::List: return among(kSequence, kListRefused);
    case Type::Tuple:
    case Type::Range: return among(kTuple, kNone);
    case Type::Dict: return among(kDictAllowed, kDictRefused);
    case Type::Float: return among(kFloat, kNone);
    default: return Access::missing;
  }
}

Value get_attribute(Engine& engine, const Value& object, const std::string& name) {
  if (object.undefined()) {
    bool security = object.o && static_cast<const UndefinedObject&>(*object.o).security;
    if (dunder(name) && !security) return refused(object, name);
    fail_undefined(object);
  }
  if (auto value = python_attribute(&engine, object, name)) return *value;
  if (object.type == Type::Dict)
    if (const Value* value = as_dict(object).find(name)) return *value;
  return missing(object, name);
}

Value get_item(Engine* engine, const Value& object, const Value& key) {
  if (object.undefined()) fail_undefined(object);
  if (auto value = python_item(object, key)) return *value;
  if (key.is_string()) {
    if (auto value = python_attribute(engine, object, key.text())) return *value;
    return missing(object, key.text());
  }
  return undefined(fmt::format("{} has no element {}", object_repr(object), repr(key)));
}

Value slice(const Value& object, const Value& begin, const Value& end, const Value& step) {
  if (object.undefined()) fail_undefined(object);
  if (!object.is_string() && object.type != Type::List && object.type != Type::Tuple && object.type != Type::Range)
    fail("TypeError", object.type == Type::Dict ? "unhashable type: 'slice'" : "'" + type_name(object) + "' object is not subscriptable");
  auto part = [](const Value& v, int64_t otherwise) {
    if (v.type == Type::None) return otherwise;
    if (!v.is_integral()) fail("TypeError", "slice indices must be integers or None or have an __index__ method");
    return v.integer();
  };
  int64_t by = part(step, 1);
  if (by == 0) fail("ValueError", "slice step cannot be zero");
  std::vector<Value> items;
  std::vector<std::string_view> characters;
  const std::string* ascii = nullptr;  // the text, when its bytes are its characters
  if (object.is_string()) {
    const std::string& text = object.text();
    charge(static_cast<int64_t>(text.size() / 64));
    if (std::none_of(text.begin(), text.end(), [](char c) { return c & 0x80; })) ascii = &text;
    else characters = split_code_points(text);
  }
  auto n = static_cast<int64_t>(ascii ? ascii->size() : object.is_string() ? characters.size() : object.items().size());
  int64_t low = by < 0 ? -1 : 0, high = by < 0 ? n - 1 : n;
  auto clamp = [&](const Value& v, int64_t otherwise) {
    if (v.type == Type::None) return otherwise;
    int64_t k = part(v, 0);
    if (k < 0) k = k < -n ? low : std::max(k + n, low);
    return std::clamp(k, low, high);
  };
  int64_t from = clamp(begin, by < 0 ? high : low), to = clamp(end, by < 0 ? low : high);
  if (by > n) by = n + 1;  // the same items, without overflow
  if (by < -n) by = -n - 1;
  if (object.type == Type::Range) {
    const auto& r = static_cast<const SequenceObject&>(*object.o).range;
    return make_range(r[0] + from * r[2], r[0] + to * r[2], by * r[2]);
  }
  std::string text;
  charge(by == 1 ? 0 : n / 8);
  if (ascii && by == 1)
    return string(from < to ? ascii->substr(static_cast<size_t>(from), static_cast<size_t>(to - from)) : "", is_safe(object));
  for (int64_t k = from; by > 0 ? k < to : k > to; k += by) {
    if (ascii) text += (*ascii)[static_cast<size_t>(k)];
    else if (object.is_string()) text += characters[static_cast<size_t>(k)];
    else items.push_back(object.items()[static_cast<size_t>(k)]);
  }
  if (object.is_string()) return string(std::move(text), is_safe(object));
  charge(static_cast<int64_t>(items.size() / 4));
  return list(std::move(items), object.type);
}

}  // namespace loraine::jinja
