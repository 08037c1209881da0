// Python's data model for the Jinja engine: construction, truth, equality, order, str, repr.
#include "loraine/text/jinja_value.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace loraine::jinja {
namespace {
thread_local Budget* current = nullptr;

int depth_of(const Value& value) { return value.o ? value.o->depth : 0; }

void set_depth(Object& object, const Value& child) {
  object.depth = std::max(object.depth, depth_of(child) + 1);
  if (object.depth > kMaxValueDepth) fail("RecursionError", fmt::format("values nested deeper than {} levels", kMaxValueDepth));
}
}  // namespace

void fail(const char* type, const std::string& message) { throw JinjaError(type, message); }

void charge(int64_t steps) {
  if (current == nullptr) return;
  current->steps -= steps;
  if (current->steps < 0) fail("LimitError", "the template runs too long (limit on steps reached)");
}

void charge_bytes(int64_t bytes) {
  if (current == nullptr) return;
  current->bytes -= bytes;
  if (bytes > current->largest || current->bytes < 0) fail("LimitError", "the template makes too much text (limit on bytes reached)");
}

BudgetScope::BudgetScope(Budget& budget) : before(current) { current = &budget; }
BudgetScope::~BudgetScope() { current = before; }

const std::string& Value::text() const { return static_cast<const StringObject&>(*o).text; }
const std::vector<Value>& Value::items() const { return static_cast<const SequenceObject&>(*o).items; }

const Value* DictObject::find(const std::string& key) const {
  auto it = index.find(key);
  return it == index.end() ? nullptr : &entries[it->second].second;
}

const Value* DictObject::find(const Value& key) const {
  if (key.is_string()) return find(key.text());
  if (entries.size() == index.size()) return nullptr;
  charge(static_cast<int64_t>(entries.size()) / 4);
  for (const auto& [k, v] : entries)
    if (!k.is_string() && equal(k, key)) return &v;
  return nullptr;
}

void DictObject::set(const Value& key, Value value) {
  if (key.type == Type::List || key.type == Type::Dict) fail("TypeError", "unhashable type: '" + type_name(key) + "'");
  set_depth(*this, value);
  set_depth(*this, key);
  if (const Value* old = find(key)) {
    *const_cast<Value*>(old) = std::move(value);
    return;
  }
  if (key.is_string()) index.emplace(key.text(), entries.size());
  entries.emplace_back(key, std::move(value));
}

Value none() {
  Value v;
  v.type = Type::None;
  return v;
}
Value boolean(bool x) {
  Value v;
  v.type = Type::Bool;
  v.b = x;
  return v;
}
Value integer(int64_t x) {
  Value v;
  v.type = Type::Int;
  v.i = x;
  return v;
}
Value real(double x) {
  Value v;
  v.type = Type::Float;
  v.d = x;
  return v;
}
Value string(std::string x, bool safe) {
  charge_bytes(static_cast<int64_t>(x.size()));
  auto object = std::make_shared<StringObject>();
  object->text = std::move(x);
  object->safe = safe;
  Value v;
  v.type = Type::String;
  v.o = std::move(object);
  return v;
}
Value list(std::vector<Value> items, Type type) {
  charge_bytes(static_cast<int64_t>(items.size() * sizeof(Value)));
  auto object = std::make_shared<SequenceObject>();
  object->items = std::move(items);
  for (const Value& item : object->items) set_depth(*object, item);
  Value v;
  v.type = type;
  v.o = std::move(object);
  return v;
}
Value dict(std::vector<std::pair<Value, Value>> entries) {
  charge_bytes(static_cast<int64_t>(entries.size() * 2 * sizeof(Value)));
  auto object = std::make_shared<DictObject>();
  for (auto& [key, value] : entries) object->set(key, std::move(value));
  Value v;
  v.type = Type::Dict;
  v.o = std::move(object);
  return v;
}
Value undefined(std::string message, bool security) {
  auto object = std::make_shared<UndefinedObject>();
  object->message = std::move(message);
  object->security = security;
  Value v;
  v.o = std::move(object);
  return v;
}
Value undefined_name(const std::string& name) { return undefined("'" + name + "' is undefined"); }

Value from_json(const nlohmann::ordered_json& json, int depth) {
  if (depth > kMaxValueDepth / 2) fail("RecursionError", fmt::format("input nested deeper than {} levels", kMaxValueDepth / 2));
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean: return boolean(json.get<bool>());
    case nlohmann::ordered_json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) fail("OverflowError", "integer beyond 64 bits in the input");
      return integer(json.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_integer: return integer(json.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_float: return real(json.get<double>());
    case nlohmann::ordered_json::value_t::string: return string(json.get_ref<const std::string&>());
    case nlohmann::ordered_json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json(item, depth + 1));
      return list(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      std::vector<std::pair<Value, Value>> entries;
      for (auto it = json.begin(); it != json.end(); ++it) entries.emplace_back(string(it.key()), from_json(it.value(), depth + 1));
      return dict(std::move(entries));
    }
    default: return none();
  }
}

const DictObject& as_dict(const Value& value) {
  if (value.type == Type::Namespace) return static_cast<const NamespaceObject&>(*value.o).attributes;
  return static_cast<const DictObject&>(*value.o);
}

void fail_undefined(const Value& value) {
  const auto* object = static_cast<const UndefinedObject*>(value.o.get());
  if (object == nullptr) fail("UndefinedError", "value is undefined");
  throw JinjaError(object->security ? "SecurityError" : "UndefinedError", object->message);
}

std::string type_name(const Value& value) {
  switch (value.type) {
    case Type::Undefined: return "Undefined";
    case Type::None: return "NoneType";
    case Type::Bool: return "bool";
    case Type::Int: return "int";
    case Type::Float: return "float";
    case Type::String: return "str";
    case Type::List: return "list";
    case Type::Tuple: return "tuple";
    case Type::Generator: return "generator";
    case Type::View: return static_cast<const SequenceObject&>(*value.o).view;
    case Type::Range: return "range";
    case Type::Dict: return "dict";
    case Type::Namespace: return "Namespace";
    case Type::Object: return static_cast<const CallableObject&>(*value.o).class_name();
  }
  return "object";
}

bool truthy(const Value& value) {
  switch (value.type) {
    case Type::Undefined:
    case Type::None: return false;
    case Type::Bool: return value.b;
    case Type::Int: return value.i != 0;
    case Type::Float: return value.d != 0;
    case Type::String: return !value.text().empty();
    case Type::List:
    case Type::Tuple:
    case Type::View:
    case Type::Range: return !value.items().empty();
    case Type::Dict: return !as_dict(value).entries.empty();
    default: return true;
  }
}

bool equal(const Value& a, const Value& b) {
  charge(1);
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
    return a.number() == b.number();
  }
  if (a.type != b.type) return false;
  switch (a.type) {
    case Type::Undefined:
    case Type::None: return true;
    case Type::String: return a.text() == b.text();
    case Type::List:
    case Type::Tuple:
    case Type::Range: {
      if (a.o == b.o) return true;
      const auto &x = a.items(), &y = b.items();
      if (x.size() != y.size()) return false;
      for (size_t k = 0; k < x.size(); ++k)
        if (!equal(x[k], y[k])) return false;
      return true;
    }
    case Type::Dict: {
      if (a.o == b.o) return true;
      const auto &x = as_dict(a), &y = as_dict(b);
      if (x.entries.size() != y.entries.size()) return false;
      for (const auto& [key, value] : x.entries) {
        const Value* other = y.find(key);
        if (other == nullptr || !equal(value, *other)) return false;
      }
      return true;
    }
    default: return a.o == b.o;
  }
}

bool less(const Value& a, const Value& b, const char* op) {
  charge(1);
  if (a.undefined()) fail_undefined(a);
  if (b.undefined()) fail_undefined(b);
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.integer() < b.integer();
    return a.number() < b.number();
  }
  if (a.is_string() && b.is_string()) return a.text() < b.text();  // UTF-8 keeps the order of code points
  if (a.type == b.type && (a.type == Type::List || a.type == Type::Tuple)) {
    const auto &x = a.items(), &y = b.items();
    for (size_t k = 0; k < std::min(x.size(), y.size()); ++k)
      if (!equal(x[k], y[k])) return less(x[k], y[k], op);
    return x.size() < y.size();
  }
  fail("TypeError", fmt::format("'{}' not supported between instances of '{}' and '{}'", op, type_name(a), type_name(b)));
}

bool compare(const Value& a, const Value& b, const char* op) {
  std::string_view o = op;
  if (o == "<") return less(a, b, op);
  if (o == ">") {
    if (a.undefined() || !a.is_number()) {
      if (a.undefined()) fail_undefined(a);
      if (a.type != b.type && !b.undefined())
        fail("TypeError", fmt::format("'>' not supported between instances of '{}' and '{}'", type_name(a), type_name(b)));
    }
    return less(b, a, op);
  }
  if (a.is_number() && b.is_number()) return (o == "<=") ? (less(a, b, op) || equal(a, b)) : (less(b, a, op) || equal(a, b));
  if (!a.undefined() && !b.undefined() && equal(a, b) && (a.is_string() || a.type == Type::List || a.type == Type::Tuple)) return true;
  return o == "<=" ? less(a, b, op) : less(b, a, op);
}

bool contains(const Value& item, const Value& container) {
  switch (container.type) {
    case Type::String:
      if (item.undefined() || !item.is_string())
        fail("TypeError", fmt::format("'in <string>' requires string as left operand, not {}", type_name(item)));
      charge(static_cast<int64_t>(container.text().size() / 64));
      return container.text().find(item.text()) != std::string::npos;
    case Type::Dict:
      if (item.type == Type::List || item.type == Type::Dict) fail("TypeError", "unhashable type: '" + type_name(item) + "'");
      return as_dict(container).find(item) != nullptr;
    case Type::Undefined:
      if (container.o && static_cast<const UndefinedObject&>(*container.o).security) fail_undefined(container);
      return false;
    default: break;
  }
  if (!container.is_sequence()) fail("TypeError", "argument of type '" + type_name(container) + "' is not iterable");
  for (const Value& x : container.type == Type::Generator ? iterate(container) : container.items())
    if (equal(x, item)) return true;
  return false;
}

int64_t length(const Value& value) {
  switch (value.type) {
    case Type::Undefined: return 0;
    case Type::String: charge(static_cast<int64_t>(value.text().size() / 64)); return count_code_points(value.text());
    case Type::List:
    case Type::Tuple:
    case Type::View:
    case Type::Range: return static_cast<int64_t>(value.items().size());
    case Type::Dict: return static_cast<int64_t>(as_dict(value).entries.size());
    default: break;
  }
  if (type_name(value) == "LoopContext") {
    // Loops know their length through their attribute; asked for by the filter.
  }
  fail("TypeError", "object of type '" + type_name(value) + "' has no len()");
}

std::vector<Value> iterate(const Value& value) {
  std::vector<Value> out;
  switch (value.type) {
    case Type::Undefined:
      if (value.o && static_cast<const UndefinedObject&>(*value.o).security) fail_undefined(value);
      return out;
    case Type::String:
      for (std::string_view c : split_code_points(value.text())) out.push_back(string(std::string(c)));
      break;
    case Type::Dict:
      for (const auto& [key, unused] : as_dict(value).entries) out.push_back(key);
      break;
    case Type::Generator: {
      auto& sequence = static_cast<SequenceObject&>(*value.o);
      if (sequence.consumed) return out;
      sequence.consumed = true;
      out = sequence.items;
      break;
    }
    default:
      if (!value.is_sequence()) fail("TypeError", "'" + type_name(value) + "' object is not iterable");
      out = value.items();
  }
  charge(static_cast<int64_t>(out.size()));
  charge_bytes(static_cast<int64_t>(out.size() * sizeof(Value)));
  return out;
}

std::string float_repr(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x < 0 ? "-inf" : "inf";
  char digits[40];
  auto end = std::to_chars(digits, digits + sizeof digits, x, std::chars_format::scientific).ptr;
  std::string text(digits, end);
  size_t e = text.find('e');
  int exponent = std::stoi(text.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return fmt::format("{}e{}{:02d}", text.substr(0, e), exponent < 0 ? '-' : '+', std::abs(exponent));
  char fixed[400];
  end = std::to_chars(fixed, fixed + sizeof fixed, x, std::chars_format::fixed).ptr;
  std::string out(fixed, end);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

namespace {

bool printable(char32_t c) {
  if (c == ' ') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
  }
}

void repr_string(const std::string& text, std::string& out) {
  char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  out += quote;
  for (std::string_view s : split_code_points(text)) {
    char32_t c = decode(s);
    if (c == static_cast<char32_t>(quote) || c == '\\') (out += '\\') += s;
    else if (c == '\n') out += "\\n";
    else if (c == '\r') out += "\\r";
    else if (c == '\t') out += "\\t";
    else if (printable(c)) out += s;
    else if (c < 0x100) out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    else if (c < 0x10000) out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    else out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
  }
  out += quote;
}

void repr_to(const Value& value, std::string& out, int depth);

void repr_items(const std::vector<Value>& items, std::string& out, int depth) {
  for (size_t k = 0; k < items.size(); ++k) {
    if (k) out += ", ";
    repr_to(items[k], out, depth);
  }
}

void repr_dict(const DictObject& d, std::string& out, int depth) {
  out += '{';
  for (size_t k = 0; k < d.entries.size(); ++k) {
    if (k) out += ", ";
    repr_to(d.entries[k].first, out, depth);
    out += ": ";
    repr_to(d.entries[k].second, out, depth);
  }
  out += '}';
}

void repr_to(const Value& value, std::string& out, int depth) {
  charge(1);
  if (depth > kMaxValueDepth) fail("RecursionError", "maximum recursion depth exceeded while getting the repr of an object");
  size_t before = out.size();
  switch (value.type) {
    case Type::Undefined: out += "Undefined"; break;
    case Type::None: out += "None"; break;
    case Type::Bool: out += value.b ? "True" : "False"; break;
    case Type::Int: out += std::to_string(value.i); break;
    case Type::Float: out += float_repr(value.d); break;
    case Type::String: repr_string(value.text(), out); break;
    case Type::List:
      out += '[';
      repr_items(value.items(), out, depth + 1);
      out += ']';
      break;
    case Type::Tuple:
      out += '(';
      repr_items(value.items(), out, depth + 1);
      out += value.items().size() == 1 ? ",)" : ")";
      break;
    case Type::View:
      (out += static_cast<const SequenceObject&>(*value.o).view) += "([";
      repr_items(value.items(), out, depth + 1);
      out += "])";
      break;
    case Type::Range: {
      const auto& r = static_cast<const SequenceObject&>(*value.o).range;
      out += r[2] == 1 ? fmt::format("range({}, {})", r[0], r[1]) : fmt::format("range({}, {}, {})", r[0], r[1], r[2]);
      break;
    }
    case Type::Dict: repr_dict(as_dict(value), out, depth + 1); break;
    case Type::Namespace:
      out += "<Namespace ";
      repr_dict(as_dict(value), out, depth + 1);
      out += '>';
      break;
    default: out += "<" + type_name(value) + " object>";
  }
  if (out.size() - before > 1024) charge_bytes(static_cast<int64_t>(out.size() - before));
}

void json_string(const std::string& text, bool ascii, std::string& out) {
  out += '"';
  for (std::string_view s : split_code_points(text)) {
    char32_t c = decode(s);
    if (c == '"') out += "\\\"";
    else if (c == '\\') out += "\\\\";
    else if (c == '\n') out += "\\n";
    else if (c == '\r') out += "\\r";
    else if (c == '\t') out += "\\t";
    else if (c == '\b') out += "\\b";
    else if (c == '\f') out += "\\f";
    else if (c < 0x20) out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    else if (!ascii || c < 0x7f + 1) out += s;
    else if (c < 0x10000) out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    else
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((static_cast<uint32_t>(c) - 0x10000) >> 10),
                         0xdc00 + ((static_cast<uint32_t>(c) - 0x10000) & 0x3ff));
  }
  out += '"';
}

std::string json_number(double x) {
  if (std::isnan(x)) return "NaN";
  if (std::isinf(x)) return x < 0 ? "-Infinity" : "Infinity";
  return float_repr(x);
}

std::string json_key(const Value& key) {
  switch (key.type) {
    case Type::String: return key.text();
    case Type::None: return "null";
    case Type::Bool: return key.b ? "true" : "false";
    case Type::Int: return std::to_string(key.i);
    case Type::Float: return json_number(key.d);
    default: fail("TypeError", "keys must be str, int, float, bool or None, not " + type_name(key));
  }
}

void json_newline(const JsonOptions& options, int depth, std::string& out) {
  if (!options.indent) return;
  out += '\n';
  for (int k = 0; k < depth; ++k) out += *options.indent;
}

void json_to(const Value& value, const JsonOptions& options, int depth, std::string& out) {
  charge(1);
  size_t before = out.size();
  switch (value.type) {
    case Type::None: out += "null"; break;
    case Type::Bool: out += value.b ? "true" : "false"; break;
    case Type::Int: out += std::to_string(value.i); break;
    case Type::Float: out += json_number(value.d); break;
    case Type::String: json_string(value.text(), options.ensure_ascii, out); break;
    case Type::List:
    case Type::Tuple: {
      const auto& items = value.items();
      out += '[';
      for (size_t k = 0; k < items.size(); ++k) {
        if (k) out += options.item_separator;
        json_newline(options, depth + 1, out);
        json_to(items[k], options, depth + 1, out);
      }
      if (!items.empty()) json_newline(options, depth, out);
      out += ']';
      break;
    }
    case Type::Dict: {
      auto entries = as_dict(value).entries;
      if (options.sort_keys)
        std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return less(a.first, b.first, "<"); });
      out += '{';
      for (size_t k = 0; k < entries.size(); ++k) {
        if (k) out += options.item_separator;
        json_newline(options, depth + 1, out);
        json_string(json_key(entries[k].first), options.ensure_ascii, out);
        out += options.key_separator;
        json_to(entries[k].second, options, depth + 1, out);
      }
      if (!entries.empty()) json_newline(options, depth, out);
      out += '}';
      break;
    }
    default: fail("TypeError", "Object of type " + type_name(value) + " is not JSON serializable");
  }
  if (out.size() - before > 1024) charge_bytes(static_cast<int64_t>(out.size() - before));
}
}  // namespace

std::string to_text(const Value& value) {
  if (value.undefined()) return "";
  if (value.is_string()) return value.text();
  return repr(value);
}

std::string repr(const Value& value) {
  std::string out;
  repr_to(value, out, 0);
  return out;
}

std::string to_json(const Value& value, const JsonOptions& options) {
  std::string out;
  json_to(value, options, 0, out);
  return out;
}

int64_t count_code_points(std::string_view text) {
  int64_t n = 0;
  for (char c : text) n += (c & 0xc0) != 0x80;
  return n;
}

std::vector<std::string_view> split_code_points(std::string_view text) {
  charge(static_cast<int64_t>(text.size() / 8));
  charge_bytes(static_cast<int64_t>(text.size()));
  std::vector<std::string_view> out;
  out.reserve(text.size());
  for (size_t k = 0; k < text.size();) {
    size_t end = k + 1;
    while (end < text.size() && (text[end] & 0xc0) == 0x80 && end - k < 4) ++end;
    out.push_back(text.substr(k, end - k));
    k = end;
  }
  return out;
}

char32_t decode(std::string_view s) {
  auto b = [&](size_t k) { return static_cast<char32_t>(static_cast<unsigned char>(s[k])); };
  if (s.size() == 2) return (b(0) & 0x1f) << 6 | (b(1) & 0x3f);
  if (s.size() == 3) return (b(0) & 0x0f) << 12 | (b(1) & 0x3f) << 6 | (b(2) & 0x3f);
  if (s.size() == 4) return (b(0) & 0x07) << 18 | (b(1) & 0x3f) << 12 | (b(2) & 0x3f) << 6 | (b(3) & 0x3f);
  return s.empty() ? 0 : b(0);
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) out += static_cast<char>(c);
  else if (c < 0x800) (out += static_cast<char>(0xc0 | c >> 6)) += static_cast<char>(0x80 | (c & 0x3f));
  else if (c < 0x10000)
    ((out += static_cast<char>(0xe0 | c >> 12)) += static_cast<char>(0x80 | (c >> 6 & 0x3f))) += static_cast<char>(0x80 | (c & 0x3f));
  else
    (((out += static_cast<char>(0xf0 | c >> 18)) += static_cast<char>(0x80 | (c >> 12 & 0x3f))) +=
     static_cast<char>(0x80 | (c >> 6 & 0x3f))) += static_cast<char>(0x80 | (c & 0x3f));
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
         c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

std::string_view strip(std::string_view text, bool left, bool right, const std::string* characters) {
  std::vector<std::string_view> set;
  if (characters) set = split_code_points(*characters);
  auto drop = [&](std::string_view c) {
    if (!characters) return is_space(decode(c));
    for (std::string_view x : set)
      if (x == c) return true;
    return false;
  };
  while (left && !text.empty()) {
    size_t end = 1;
    while (end < text.size() && (text[end] & 0xc0) == 0x80 && end < 4) ++end;
    if (!drop(text.substr(0, end))) break;
    text.remove_prefix(end);
  }
  while (right && !text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && (text[begin] & 0xc0) == 0x80 && text.size() - begin < 4) --begin;
    if (!drop(text.substr(begin))) break;
    text.remove_suffix(text.size() - begin);
  }
  return text;
}

}  // namespace loraine::jinja
