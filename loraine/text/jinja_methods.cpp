// Operators, item access and the methods of str, list, tuple and dict, with Python's results. Called by the evaluator and the filters.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "loraine/text/jinja_builtins.h"
#include "loraine/text/jinja_text.h"

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
    if (self.is_string() && name == "format") return brace_format(&engine, self.text(), args);
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
  if (object.is_integral() && (name == "real" || name == "numerator")) return integer(object.integer());
  if (object.is_integral() && name == "imag") return integer(0);
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
    return string(text.substr(at, end - at));
  }
  if (object.type == Type::List || object.type == Type::Tuple || object.type == Type::Range) {
    const auto& items = object.items();
    if (k < 0) k += static_cast<int64_t>(items.size());
    if (k < 0 || k >= static_cast<int64_t>(items.size())) return std::nullopt;
    return items[static_cast<size_t>(k)];
  }
  return std::nullopt;
}

[[noreturn]] void overflow() { fail("OverflowError", "an integer beyond 64 bits"); }

Value integer_binary(const std::string& op, int64_t a, int64_t b) {
  int64_t r;
  if (op == "+") return __builtin_add_overflow(a, b, &r) ? (overflow(), Value()) : integer(r);
  if (op == "-") return __builtin_sub_overflow(a, b, &r) ? (overflow(), Value()) : integer(r);
  if (op == "*") return __builtin_mul_overflow(a, b, &r) ? (overflow(), Value()) : integer(r);
  if (op == "/") {
    if (b == 0) fail("ZeroDivisionError", "division by zero");
    return real(static_cast<double>(a) / static_cast<double>(b));
  }
  if (op == "**") {
    if (b < 0) {
      if (a == 0) fail("ZeroDivisionError", "0.0 cannot be raised to a negative power");
      return real(std::pow(static_cast<double>(a), static_cast<double>(b)));
    }
    if (a == 0 || a == 1) return integer(b == 0 ? 1 : a);
    if (a == -1) return integer(b % 2 ? -1 : 1);
    r = 1;
    for (int64_t k = 0; k < b; ++k)
      if (__builtin_mul_overflow(r, a, &r)) overflow();
    return integer(r);
  }
  if (b == 0) fail("ZeroDivisionError", op == "%" ? "integer modulo by zero" : "integer division or modulo by zero");
  if (b == -1) return op == "%" ? integer(0) : integer_binary("-", 0, a);
  int64_t quotient = a / b, rest = a % b;
  if (rest != 0 && (rest < 0) != (b < 0)) --quotient, rest += b;
  return integer(op == "%" ? rest : quotient);
}

Value float_binary(const std::string& op, double a, double b) {
  if (op == "+") return real(a + b);
  if (op == "-") return real(a - b);
  if (op == "*") return real(a * b);
  if (op == "**") {
    if (a == 0 && b < 0) fail("ZeroDivisionError", "0.0 cannot be raised to a negative power");
    double r = std::pow(a, b);
    if (std::isinf(r) && std::isfinite(a) && std::isfinite(b)) fail("OverflowError", "(34, 'Numerical result out of range')");
    return real(r);
  }
  if (b == 0) fail("ZeroDivisionError", op == "/" ? "float division by zero" : op == "%" ? "float modulo" : "float floor division by zero");
  if (op == "/") return real(a / b);
  double rest = std::fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
  else if (rest == 0) rest = std::copysign(0.0, b);
  if (op == "%") return real(rest);
  double quotient = (a - rest) / b;
  double whole = std::floor(quotient);
  if (quotient - whole > 0.5) whole += 1;
  return real(quotient == 0 ? std::copysign(0.0, a / b) : whole);
}

Value repeat(const Value& sequence, int64_t count) {
  if (count < 0) count = 0;
  if (sequence.is_string()) {
    const std::string& unit = sequence.text();
    int64_t bytes;
    if (__builtin_mul_overflow(static_cast<int64_t>(unit.size()), count, &bytes)) bytes = INT64_MAX / 2;
    charge_bytes(bytes);
    std::string out;
    if (!unit.empty())
      for (int64_t k = 0; k < count; ++k) out += unit;
    return string(std::move(out));
  }
  const auto& unit = sequence.items();
  int64_t bytes;
  if (__builtin_mul_overflow(static_cast<int64_t>(unit.size() * sizeof(Value)), count, &bytes)) bytes = INT64_MAX / 2;
  charge_bytes(bytes);
  std::vector<Value> out;
  if (!unit.empty())
    for (int64_t k = 0; k < count; ++k) out.insert(out.end(), unit.begin(), unit.end());
  return list(std::move(out), sequence.type);
}

}  // namespace

int64_t as_integer(const Value& value) {
  if (value.undefined()) fail_undefined(value);
  if (!value.is_integral()) fail("TypeError", "'" + type_name(value) + "' object cannot be interpreted as an integer");
  return value.integer();
}

Value binary(const std::string& op, const Value& a, const Value& b) {
  if (op == "%" && a.is_string()) return percent_format(a.text(), b);
  if (a.undefined()) fail_undefined(a);
  if (b.undefined()) fail_undefined(b);
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return integer_binary(op, a.integer(), b.integer());
    return float_binary(op, a.number(), b.number());
  }
  bool list_a = a.type == Type::List || a.type == Type::Tuple;
  if (op == "+") {
    if (a.is_string() && b.is_string()) return string(a.text() + b.text());
    if (list_a && a.type == b.type) {
      std::vector<Value> items = a.items();
      items.insert(items.end(), b.items().begin(), b.items().end());
      charge(static_cast<int64_t>(items.size() / 8));
      return list(std::move(items), a.type);
    }
    if (a.is_string() || list_a)
      fail("TypeError", fmt::format("can only concatenate {0} (not \"{1}\") to {0}", type_name(a), type_name(b)));
  }
  if (op == "*") {
    if ((a.is_string() || list_a) && b.is_integral()) return repeat(a, b.integer());
    if (a.is_integral() && (b.is_string() || b.type == Type::List || b.type == Type::Tuple)) return repeat(b, a.integer());
  }
  fail("TypeError",
       fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", op == "**" ? "** or pow()" : op, type_name(a), type_name(b)));
}

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
    return undefined(object_repr(object) + " has no element slice");
  auto part = [](const Value& v, int64_t otherwise) {
    if (v.type == Type::None) return otherwise;
    if (!v.is_integral()) fail("TypeError", "slice indices must be integers or None or have an __index__ method");
    return v.integer();
  };
  int64_t by = part(step, 1);
  if (by == 0) fail("ValueError", "slice step cannot be zero");
  std::vector<Value> items;
  std::vector<std::string_view> characters;
  if (object.is_string()) characters = split_code_points(object.text());
  auto n = static_cast<int64_t>(object.is_string() ? characters.size() : object.items().size());
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
  std::string text;
  for (int64_t k = from; by > 0 ? k < to : k > to; k += by) {
    if (object.is_string()) text += characters[static_cast<size_t>(k)];
    else items.push_back(object.items()[static_cast<size_t>(k)]);
  }
  if (object.is_string()) return string(std::move(text));
  charge(static_cast<int64_t>(items.size() / 4));
  return list(std::move(items), object.type == Type::Range ? Type::List : object.type);
}

// ---- methods

std::vector<Value> bind_args(const char* function, Args& args, std::initializer_list<const char*> names, size_t required) {
  std::vector<Value> out(names.size());
  if (args.positional.size() > names.size())
    fail("TypeError", fmt::format("{}() takes at most {} argument(s) but {} were given", function, names.size(), args.positional.size()));
  for (size_t k = 0; k < args.positional.size(); ++k) out[k] = args.positional[k];
  std::vector<bool> set(names.size(), false);
  for (auto& [name, value] : args.named) {
    size_t k = 0;
    for (const char* known : names) {
      if (name == known) break;
      ++k;
    }
    if (k == names.size()) fail("TypeError", fmt::format("{}() got an unexpected keyword argument '{}'", function, name));
    if (k < args.positional.size()) fail("TypeError", fmt::format("{}() got multiple values for argument '{}'", function, name));
    out[k] = value;
    set[k] = true;
  }
  for (size_t k = args.positional.size(); k < required; ++k)
    if (!set[k]) fail("TypeError", fmt::format("{}() missing {} required positional argument(s)", function, required - k));
  return out;
}

namespace {

const std::string& need_string(const Value& value, const char* what) {
  if (!value.is_string()) fail("TypeError", fmt::format("{} must be str, not {}", what, type_name(value)));
  return value.text();
}

Value string_list(const std::vector<std::string>& parts, Type type = Type::List) {
  std::vector<Value> items;
  items.reserve(parts.size());
  charge(static_cast<int64_t>(parts.size()));
  for (const std::string& part : parts) items.push_back(string(part));
  return list(std::move(items), type);
}

Value split(const std::string& text, const Value& separator, int64_t limit, bool from_right) {
  std::vector<std::string> parts;
  if (limit < 0) limit = INT64_MAX;
  if (!given(separator) || separator.type == Type::None) return string_list(split_words(text, limit, from_right));
  const std::string& by = need_string(separator, "separator");
  if (by.empty()) fail("ValueError", "empty separator");
  charge(static_cast<int64_t>(text.size() / 16));
  if (!from_right) {
    size_t at = 0;
    for (size_t hit; limit > 0 && (hit = text.find(by, at)) != std::string::npos; --limit, at = hit + by.size())
      parts.push_back(text.substr(at, hit - at));
    parts.push_back(text.substr(at));
  } else {
    size_t end = text.size();
    for (; limit > 0 && end >= by.size(); --limit) {
      size_t hit = text.rfind(by, end - by.size());
      if (hit == std::string::npos) break;
      parts.push_back(text.substr(hit + by.size(), end - hit - by.size()));
      end = hit;
    }
    parts.push_back(text.substr(0, end));
    std::reverse(parts.begin(), parts.end());
  }
  return string_list(parts);
}

// text[begin:end] in code points, as find, count and startswith take it; `offset` is where it starts, in code points.
std::string window(const std::string& text, const Value& begin, const Value& end, int64_t* offset) {
  *offset = 0;
  auto absent = [](const Value& v) { return !given(v) || v.type == Type::None; };
  if (absent(begin) && absent(end)) return text;
  int64_t n = count_code_points(text);
  auto clamp = [&](const Value& v, int64_t otherwise) {
    if (absent(v)) return otherwise;
    int64_t k = as_integer(v);
    return std::clamp<int64_t>(k < 0 ? k + n : k, 0, n);
  };
  int64_t from = clamp(begin, 0), to = clamp(end, n);
  *offset = from;
  return slice(string(text), integer(from), integer(std::max(from, to)), none()).text();
}

Value find(const std::string& name, const std::string& text, Args& args) {
  auto a = bind_args(name.c_str(), args, {"sub", "start", "end"}, 1);
  const std::string& part = need_string(a[0], "sub");
  int64_t offset;
  std::string where = window(text, a[1], a[2], &offset);
  charge(static_cast<int64_t>(where.size() / 16));
  bool right = name[0] == 'r';
  size_t hit = right ? where.rfind(part) : where.find(part);
  if (hit == std::string::npos) {
    if (name.ends_with("index")) fail("ValueError", "substring not found");
    return integer(-1);
  }
  return integer(offset + count_code_points(std::string_view(where).substr(0, hit)));
}

Value count(const std::string& text, Args& args) {
  auto a = bind_args("count", args, {"sub", "start", "end"}, 1);
  const std::string& part = need_string(a[0], "sub");
  int64_t offset;
  std::string where = window(text, a[1], a[2], &offset);
  charge(static_cast<int64_t>(where.size() / 16));
  if (part.empty()) return integer(count_code_points(where) + 1);
  int64_t n = 0;
  for (size_t at = 0; (at = where.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return integer(n);
}

Value affix(const std::string& name, const std::string& text, Args& args) {
  auto a = bind_args(name.c_str(), args, {"prefix", "start", "end"}, 1);
  int64_t offset;
  std::string where = window(text, a[1], a[2], &offset);
  auto matches = [&](const Value& v) {
    const std::string& part = need_string(v, (name + " first arg").c_str());
    return name == "startswith" ? where.starts_with(part) : where.ends_with(part);
  };
  if (a[0].type != Type::Tuple) {
    if (!a[0].is_string()) fail("TypeError", fmt::format("{} first arg must be str or a tuple of str, not {}", name, type_name(a[0])));
    return boolean(matches(a[0]));
  }
  for (const Value& v : a[0].items())
    if (matches(v)) return boolean(true);
  return boolean(false);
}

Value partition(const std::string& text, Args& args, bool right) {
  auto a = bind_args("partition", args, {"sep"}, 1);
  const std::string& by = need_string(a[0], "sep");
  if (by.empty()) fail("ValueError", "empty separator");
  size_t hit = right ? text.rfind(by) : text.find(by);
  if (hit == std::string::npos) return right ? string_list({"", "", text}, Type::Tuple) : string_list({text, "", ""}, Type::Tuple);
  return string_list({text.substr(0, hit), by, text.substr(hit + by.size())}, Type::Tuple);
}

Value join(const std::string& separator, Args& args) {
  auto a = bind_args("join", args, {"iterable"}, 1);
  std::string out;
  std::vector<Value> items = iterate(a[0]);
  for (size_t k = 0; k < items.size(); ++k) {
    if (!items[k].is_string()) fail("TypeError", fmt::format("sequence item {}: expected str instance, {} found", k, type_name(items[k])));
    if (k) out += separator;
    out += items[k].text();
    if ((k & 0xff) == 0) charge_bytes(static_cast<int64_t>(out.size() / 256));
    if (out.size() > (size_t{64} << 20)) charge_bytes(static_cast<int64_t>(out.size()));
  }
  return string(std::move(out));
}

Value padded(const std::string& name, const std::string& text, Args& args) {
  auto a = bind_args(name.c_str(), args, {"width", "fillchar"}, 1);
  std::string fill = given(a[1]) ? need_string(a[1], "fillchar") : " ";
  if (count_code_points(fill) != 1) fail("TypeError", "The fill character must be exactly one character long");
  return string(pad(text, as_integer(a[0]), fill, name == "ljust" ? '<' : name == "rjust" ? '>' : 'c'));
}

Value stripped(const std::string& name, const std::string& text, Args& args) {
  auto a = bind_args(name.c_str(), args, {"chars"});
  bool left = name != "rstrip", right = name != "lstrip";
  if (!given(a[0]) || a[0].type == Type::None) return string(std::string(strip(text, left, right)));
  if (!a[0].is_string()) fail("TypeError", name + " arg must be None or str");
  return string(std::string(strip(text, left, right, &a[0].text())));
}

Value string_method(const std::string& text, const std::string& name, Args& args) {
  charge(static_cast<int64_t>(text.size() / 64));
  if (name == "split" || name == "rsplit") {
    auto a = bind_args(name.c_str(), args, {"sep", "maxsplit"});
    return split(text, a[0], given(a[1]) ? as_integer(a[1]) : -1, name == "rsplit");
  }
  if (name == "strip" || name == "lstrip" || name == "rstrip") return stripped(name, text, args);
  if (name == "startswith" || name == "endswith") return affix(name, text, args);
  if (name == "replace") {
    auto a = bind_args("replace", args, {"old", "new", "count"}, 2);
    return string(replace_all(text, need_string(a[0], "replace() argument 1"), need_string(a[1], "replace() argument 2"),
                              given(a[2]) ? as_integer(a[2]) : -1));
  }
  if (name == "find" || name == "rfind" || name == "index" || name == "rindex") return find(name, text, args);
  if (name == "count") return count(text, args);
  if (name == "join") return join(text, args);
  if (name == "partition" || name == "rpartition") return partition(text, args, name == "rpartition");
  if (name == "ljust" || name == "rjust" || name == "center") return padded(name, text, args);
  if (name == "zfill") {
    int64_t width = as_integer(bind_args("zfill", args, {"width"}, 1)[0]);
    bool sign = !text.empty() && (text[0] == '-' || text[0] == '+');
    return string((sign ? text.substr(0, 1) : "") + pad(text.substr(sign), width - sign, "0", '>'));
  }
  if (name == "removeprefix" || name == "removesuffix") {
    const std::string part = need_string(bind_args(name.c_str(), args, {"affix"}, 1)[0], "argument");
    if (name == "removeprefix") return string(text.starts_with(part) ? text.substr(part.size()) : text);
    return string(text.ends_with(part) ? text.substr(0, text.size() - part.size()) : text);
  }
  if (name == "splitlines") {
    auto a = bind_args("splitlines", args, {"keepends"});
    return string_list(split_lines(text, truthy(a[0])));
  }
  if (name == "expandtabs" || name == "encode" || name == "translate" || name == "maketrans" || name == "format_map" ||
      name == "isidentifier" || name == "isprintable")
    fail("TypeError", "str." + name + " is not supported in chat templates");
  bind_args(name.c_str(), args, {});
  if (name == "upper") return string(upper(text));
  if (name == "lower") return string(lower(text));
  if (name == "casefold") return string(casefold(text));
  if (name == "capitalize") return string(capitalize(text));
  if (name == "title") return string(title(text));
  if (name == "swapcase") return string(swapcase(text));
  return boolean(is_class(text, name));
}

Value view_of(const DictObject& d, const std::string& name) {
  std::vector<Value> items;
  items.reserve(d.entries.size());
  charge(static_cast<int64_t>(d.entries.size()));
  for (const auto& [key, value] : d.entries)
    items.push_back(name == "keys" ? key : name == "values" ? value : list({key, value}, Type::Tuple));
  Value v = list(std::move(items), Type::View);
  static_cast<SequenceObject&>(*v.o).view = name == "keys" ? "dict_keys" : name == "values" ? "dict_values" : "dict_items";
  return v;
}
}  // namespace

Value call_method(const Value& self, const std::string& name, Args& args) {
  if (self.is_string()) return string_method(self.text(), name, args);
  if (self.type == Type::Float) return boolean(std::isfinite(self.d) && self.d == std::floor(self.d));
  if (self.type == Type::Dict) {
    const DictObject& d = as_dict(self);
    if (name == "get") {
      auto a = bind_args("get", args, {"key", "default"}, 1);
      if (a[0].type == Type::List || a[0].type == Type::Dict) fail("TypeError", "unhashable type: '" + type_name(a[0]) + "'");
      const Value* found = d.find(a[0]);
      return found ? *found : args.positional.size() > 1 ? a[1] : given(a[1]) ? a[1] : none();
    }
    bind_args(name.c_str(), args, {});
    if (name == "copy") return dict(d.entries);
    return view_of(d, name);
  }
  if (name == "copy") return list(self.items());
  auto a = bind_args(name.c_str(), args, {"value", "start", "stop"}, 1);
  int64_t n = 0;
  const auto& items = self.items();
  for (size_t k = 0; k < items.size(); ++k) {
    if (!equal(items[k], a[0])) continue;
    if (name == "index") {
      if (!given(a[1]) || static_cast<int64_t>(k) >= as_integer(a[1])) return integer(static_cast<int64_t>(k));
    }
    ++n;
  }
  if (name == "index")
    fail("ValueError", self.type == Type::Tuple ? "tuple.index(x): x not in tuple" : repr(a[0]) + " is not in " + type_name(self));
  return integer(n);
}

}  // namespace loraine::jinja
