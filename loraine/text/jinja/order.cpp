// Truth, equality, order and membership as Python has them. Called by the evaluator, the filters and the containers of the Jinja engine.
#include <fmt/format.h>

#include <cmath>
#include <compare>

#include "loraine/text/jinja/value.h"

namespace loraine::jinja {

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

namespace {
// Exact also between an int beyond 2^53 and a float.
std::partial_ordering order_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    if (!a.big() && !b.big()) return a.integer() <=> b.integer();
    charge(1);
    return big_integer(a) <=> big_integer(b);
  }
  if (a.type == Type::Float && b.type == Type::Float) return a.d <=> b.d;
  if (a.type == Type::Float) {
    auto reversed = order_numbers(b, a);
    return reversed < 0 ? std::partial_ordering::greater : reversed > 0 ? std::partial_ordering::less : reversed;
  }
  constexpr int64_t kExact = int64_t{1} << 53;
  if (!a.big() && a.integer() <= kExact && a.integer() >= -kExact) return static_cast<double>(a.integer()) <=> b.d;
  if (std::isnan(b.d)) return std::partial_ordering::unordered;
  if (std::isinf(b.d)) return 0.0 <=> b.d;
  double whole = std::trunc(b.d);
  auto order = big_integer(a) <=> BigInteger::from_double(whole);
  if (order != 0) return order;
  return whole <=> b.d;
}
}  // namespace

bool equal(const Value& a, const Value& b) {
  charge(1);
  if (a.is_number() && b.is_number()) { return order_numbers(a, b) == 0; }
  if (a.type != b.type) return false;
  switch (a.type) {
    case Type::Undefined:
    case Type::None: return true;
    case Type::String:
      if (a.text().size() == b.text().size()) charge(static_cast<int64_t>(a.text().size() / 512));
      return a.text() == b.text();
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
  if (a.is_number() && b.is_number()) { return order_numbers(a, b) < 0; }
  if (a.is_string() && b.is_string()) charge(static_cast<int64_t>(std::min(a.text().size(), b.text().size()) / 512));
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
      return find_text(container.text(), item.text()) != std::string::npos;
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

}  // namespace loraine::jinja
