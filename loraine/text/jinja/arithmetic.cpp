// The operators + - * / // % ** with Python's results. Called by the evaluator and the filters of the Jinja engine.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/text/jinja/builtins.h"
#include "loraine/text/jinja/markup.h"

namespace loraine::jinja {
namespace {

// Python's `a op b` for integers of any size.
Value big_binary(const std::string& op, const BigInteger& a, const BigInteger& b) {
  if (op == "+") return integer(a + b);
  if (op == "-") return integer(a - b);
  if (op == "*") return integer(a * b);
  if (op == "**") {
    if (b.negative()) return real(std::pow(integer(a).number(), integer(b).number()));
    auto exponent = b.to_int64();
    if (!exponent && a.bits() > 1) fail("LimitError", "an integer of more than 65536 bits");
    BigInteger quotient, odd;
    BigInteger::divide(b, BigInteger(2), quotient, odd);
    return integer(BigInteger::power(a, static_cast<uint64_t>(exponent ? *exponent : odd.zero() ? 2 : 3)));
  }
  if (op == "/") {
    double x = BigInteger::true_quotient(a, b);
    if (std::isinf(x)) fail("OverflowError", "integer division result too large for a float");
    return real(x);
  }
  BigInteger quotient, rest;
  BigInteger::divide(a, b, quotient, rest);
  return integer(op == "%" ? rest : quotient);
}

Value integer_binary(const std::string& op, int64_t a, int64_t b) {
  int64_t r;
  if (op == "+") return __builtin_add_overflow(a, b, &r) ? big_binary(op, a, b) : integer(r);
  if (op == "-") return __builtin_sub_overflow(a, b, &r) ? big_binary(op, a, b) : integer(r);
  if (op == "*") return __builtin_mul_overflow(a, b, &r) ? big_binary(op, a, b) : integer(r);
  if (op == "/") {
    if (b == 0) fail("ZeroDivisionError", "division by zero");
    constexpr int64_t kExact = int64_t{1} << 53;  // up to here doubles hold both exactly
    if (std::max(a, b) > kExact || std::min(a, b) < -kExact) return big_binary(op, a, b);
    return real(static_cast<double>(a) / static_cast<double>(b));
  }
  if (op == "**") {
    if (b < 0) {
      if (a == 0) fail("ZeroDivisionError", "0.0 cannot be raised to a negative power");
      return real(std::pow(static_cast<double>(a), static_cast<double>(b)));
    }
    if (a == 0 || a == 1) return integer(b == 0 ? 1 : a);
    if (a == -1) return integer(b % 2 ? -1 : 1);
    return big_binary(op, a, b);
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
    if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) fail("TypeError", "complex numbers are not supported");
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
    return string(std::move(out), is_safe(sequence));
  }
  const auto& unit = sequence.items();
  int64_t bytes;
  if (__builtin_mul_overflow(static_cast<int64_t>(unit.size() * sizeof(Value)), count, &bytes)) bytes = INT64_MAX / 2;
  charge_bytes(bytes);
  std::vector<Value> out;
  charge(bytes / 128);
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
  if (op == "%" && a.is_string()) return percent_format(a, b);
  if (a.undefined()) fail_undefined(a);
  if (b.undefined()) fail_undefined(b);
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) {
      if (!a.big() && !b.big()) return integer_binary(op, a.integer(), b.integer());
      if (!truthy(b) && (op == "/" || op == "//" || op == "%"))
        fail("ZeroDivisionError", op == "/" ? "division by zero" : "integer division or modulo by zero");
      return big_binary(op, big_integer(a), big_integer(b));
    }
    return float_binary(op, a.number(), b.number());
  }
  bool list_a = a.type == Type::List || a.type == Type::Tuple;
  if (op == "+") {
    if (a.is_string() && b.is_string()) {
      charge_bytes(static_cast<int64_t>(a.text().size() + b.text().size()));
      if (is_safe(a) || is_safe(b)) return string(escaped(a) + escaped(b), true);
      return string(a.text() + b.text());
    }
    if (list_a && a.type == b.type) {
      charge_bytes(static_cast<int64_t>((a.items().size() + b.items().size()) * sizeof(Value)));
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

}  // namespace loraine::jinja
