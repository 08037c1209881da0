// Python's data model for the Jinja engine: construction, containers, iteration; and the budget of a rendering.
#include "loraine/text/jinja/value.h"

#include <fmt/format.h>

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

void charge_live(int64_t bytes) {
  if (current == nullptr) return;
  current->live -= bytes;
  if (bytes > 0 && current->live < 0) {
    current->live += bytes;
    fail("LimitError", "the template keeps too much text (limit on memory reached)");
  }
}

void append(std::string& out, std::string_view text) {
  if (current != nullptr && out.size() + text.size() > static_cast<size_t>(current->largest))
    fail("LimitError", "the template makes too long a text (limit on bytes reached)");
  out += text;
}

void allow_input(int64_t bytes) {
  if (current == nullptr) return;
  current->steps += 4 * bytes;
  current->bytes += 64 * bytes;
  current->live += 12 * bytes;
  current->largest += 2 * bytes;
}

BudgetScope::BudgetScope(Budget& budget) : before(current) { current = &budget; }
BudgetScope::~BudgetScope() { current = before; }

double Value::number() const {
  if (type == Type::Float) return d;
  if (!big()) return static_cast<double>(integer());
  double x = big_integer(*this).to_double();
  if (std::isinf(x)) fail("OverflowError", "int too large to convert to float");
  return x;
}

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
  if (key.is_string()) charge(static_cast<int64_t>(key.text().size() / 64));
  if (const Value* old = find(key)) {
    *const_cast<Value*>(old) = std::move(value);
    return;
  }
  hold(static_cast<int64_t>(2 * sizeof(Value) + (key.is_string() ? key.text().size() + 96 : 0)));
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
Value integer(const BigInteger& x) {
  if (auto small = x.to_int64()) return integer(*small);
  auto object = std::make_shared<IntegerObject>();
  object->value = x;
  object->hold(static_cast<int64_t>(sizeof(IntegerObject) + x.bits() / 8));
  Value v = integer(x.negative() ? INT64_MIN : INT64_MAX);
  v.o = std::move(object);
  return v;
}
BigInteger big_integer(const Value& value) {
  return value.big() ? static_cast<const IntegerObject&>(*value.o).value : BigInteger(value.integer());
}
std::string integer_text(const Value& value) {
  if (!value.big()) return std::to_string(value.integer());
  const BigInteger& x = static_cast<const IntegerObject&>(*value.o).value;
  return (x.negative() ? "-" : "") + x.digits(10);
}
Value real(double x) {
  Value v;
  v.type = Type::Float;
  v.d = x;
  return v;
}
Value string(std::string x, bool safe) {
  charge(1 + static_cast<int64_t>(x.size() / 1024));
  auto object = std::make_shared<StringObject>();
  object->hold(static_cast<int64_t>(sizeof(StringObject) + 16 + x.capacity()));
  object->text = std::move(x);
  object->safe = safe;
  Value v;
  v.type = Type::String;
  v.o = std::move(object);
  return v;
}
Value list(std::vector<Value> items, Type type) {
  charge(1 + static_cast<int64_t>(items.size() / 4));
  auto object = std::make_shared<SequenceObject>();
  object->hold(static_cast<int64_t>(sizeof(SequenceObject) + 16 + items.capacity() * sizeof(Value)));
  object->items = std::move(items);
  for (const Value& item : object->items) set_depth(*object, item);
  Value v;
  v.type = type;
  v.o = std::move(object);
  return v;
}
Value dict(std::vector<std::pair<Value, Value>> entries) {
  charge(1 + static_cast<int64_t>(entries.size()));
  auto object = std::make_shared<DictObject>();
  object->hold(static_cast<int64_t>(sizeof(DictObject) + 16));
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
    case nlohmann::ordered_json::value_t::number_unsigned: return integer(BigInteger::from_unsigned(json.get<uint64_t>()));
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
  fail("TypeError", "object of type '" + type_name(value) + "' has no len()");
}

std::vector<Value> iterate(const Value& value) {
  std::vector<Value> out;
  switch (value.type) {
    case Type::Undefined:
      if (value.o && static_cast<const UndefinedObject&>(*value.o).security) fail_undefined(value);
      return out;
    case Type::String:
      charge_bytes(static_cast<int64_t>(value.text().size() * sizeof(Value)));
      for (std::string_view c : CodePoints(value.text())) out.push_back(string(std::string(c)));
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

}  // namespace loraine::jinja
