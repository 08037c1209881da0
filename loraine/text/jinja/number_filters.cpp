// Jinja's filters int, float, round and abs, with Python's reading of numbers.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/text/jinja/eval.h"
#include "loraine/text/jinja/filters.h"
#include "loraine/text/jinja/text.h"

namespace loraine::jinja {
namespace {

// Python's int(text, base); nullopt when it is not one.
std::optional<BigInteger> parse_int(std::string_view text, int base) {
  std::string s(strip(text, true, true));
  bool negative = !s.empty() && s[0] == '-';
  if (!s.empty() && (s[0] == '-' || s[0] == '+')) s.erase(0, 1);
  auto prefix = [&](char c, int b) {
    if ((base == b || base == 0) && s.size() > 2 && s[0] == '0' && (s[1] | 0x20) == c) {
      s.erase(0, 2);
      base = b;
    }
  };
  prefix('x', 16), prefix('o', 8), prefix('b', 2);
  if (base == 0) base = 10;
  std::string digits;
  bool digit_before = false;
  for (char c : s) {
    if (c == '_' && !digit_before) return std::nullopt;
    digit_before = c != '_';
    if (digit_before) digits += c;
  }
  if (!digit_before) return std::nullopt;
  if (digits.size() > 4300 && base != 2 && base != 4 && base != 8 && base != 16 && base != 32)
    fail("ValueError", "Exceeds the limit (4300 digits) for integer string conversion");
  charge(static_cast<int64_t>(digits.size() * digits.size() / 512));
  auto x = BigInteger::from_digits(digits, base);
  if (x && negative) x = -*x;
  return x;
}

std::optional<double> parse_float(std::string_view text) {
  std::string s(strip(text, true, true)), lowered;
  for (char c : s) lowered += static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
  if (lowered.empty() || lowered.find_first_of("xp()") != std::string::npos || is_space(static_cast<unsigned char>(lowered[0])))
    return std::nullopt;
  std::string clean;
  for (size_t k = 0; k < lowered.size(); ++k) {
    bool between = k > 0 && k + 1 < lowered.size() && std::isdigit(static_cast<unsigned char>(lowered[k - 1])) &&
                   std::isdigit(static_cast<unsigned char>(lowered[k + 1]));
    if (lowered[k] == '_' && between) continue;
    clean += lowered[k];
  }
  char* end = nullptr;
  double x = std::strtod(clean.c_str(), &end);
  if (end != clean.c_str() + clean.size()) return std::nullopt;
  return x;
}

Value f_int(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_int", args, {"default", "base"});
  Value otherwise = given(a[0]) ? a[0] : integer(0);
  if (value.undefined()) fail_undefined(value);
  if (value.is_integral()) return value.type == Type::Bool ? integer(value.integer()) : value;
  double x;
  if (value.is_string()) {
    int64_t base = given(a[1]) ? as_integer(a[1]) : 10;
    if (base != 0 && (base < 2 || base > 36)) return otherwise;
    if (auto parsed = parse_int(value.text(), static_cast<int>(base))) return integer(*parsed);
    auto parsed = parse_float(value.text());
    if (!parsed) return otherwise;
    x = *parsed;
  } else if (value.type == Type::Float) {
    x = value.d;
  } else {
    return otherwise;
  }
  if (!std::isfinite(x)) return otherwise;
  return integer(BigInteger::from_double(x));
}

Value f_float(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_float", args, {"default"});
  Value otherwise = given(a[0]) ? a[0] : real(0);
  if (value.undefined()) fail_undefined(value);
  if (value.is_number()) return real(value.number());
  if (value.is_string())
    if (auto parsed = parse_float(value.text())) return real(*parsed);
  return otherwise;
}

// Python's round(int, precision): to a multiple of 10 ** -precision, half to even.
Value round_integer(const Value& value, int64_t precision) {
  if (precision >= 0) return value.type == Type::Bool ? integer(value.integer()) : value;
  BigInteger unit = BigInteger::power(BigInteger(10), static_cast<uint64_t>(-precision)), quotient, rest, half, odd;
  BigInteger::divide(big_integer(value), unit, quotient, rest);
  BigInteger::divide(quotient, BigInteger(2), half, odd);
  auto order = rest + rest <=> unit;
  if (order > 0 || (order == 0 && !odd.zero())) quotient = quotient + BigInteger(1);
  return integer(quotient * unit);
}

Value f_round(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_round", args, {"precision", "method"});
  int64_t precision = given(a[0]) ? as_integer(a[0]) : 0;
  std::string method = given(a[1]) ? to_text(a[1]) : "common";
  if (method != "common" && method != "ceil" && method != "floor") fail("FilterArgumentError", "method must be common, ceil or floor");
  if (value.undefined()) fail_undefined(value);
  if (!value.is_number()) fail("TypeError", "type " + type_name(value) + " doesn't define __round__ method");
  if (precision > 300 || precision < -300) fail("ValueError", "precision beyond 300 digits");
  double x = value.number();
  double scale = std::pow(10.0, static_cast<double>(precision));
  if (method != "common") return real((method == "ceil" ? std::ceil(x * scale) : std::floor(x * scale)) / scale);
  if (value.is_integral()) return round_integer(value, precision);
  if (!std::isfinite(x)) return real(x);
  double rounded;
  if (precision >= 0) {
    rounded = std::strtod(fmt::format("{:.{}f}", x, precision).c_str(), nullptr);
  } else {
    double unit = std::pow(10.0, static_cast<double>(-precision));
    rounded = std::nearbyint(x / unit) * unit;
  }
  return real(rounded);
}

Value f_abs(Engine&, const Value& value, Args&) {
  if (value.undefined()) fail_undefined(value);
  if (value.type == Type::Float) return real(std::fabs(value.d));
  if (!value.is_integral()) fail("TypeError", "bad operand type for abs(): '" + type_name(value) + "'");
  return value.integer() < 0 ? binary("-", integer(0), value) : binary("+", value, integer(0));
}

Value f_filesizeformat(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_filesizeformat", args, {"binary"});
  Args none_given;
  if (!value.is_number() && !(value.is_string() && parse_float(value.text())))
    fail(value.is_string() ? "ValueError" : "TypeError", "could not convert to float: " + repr(value));
  const double bytes = f_float(engine, value, none_given).d;
  const bool binary = truthy(a[0]);
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return string("1 Byte");
  if (bytes < base) return string(integer_text(integer(BigInteger::from_double(std::trunc(bytes)))) + " Bytes");
  if (std::isnan(bytes)) fail("ValueError", "cannot convert float NaN to integer");
  static constexpr char kPrefixes[] = "kMGTPEZY";
  long double unit = base * base;  // exact, as Python's integers
  size_t k = 0;
  for (; k + 2 < sizeof kPrefixes && bytes >= unit; ++k) unit *= base;
  const char prefix = binary && k == 0 ? 'K' : kPrefixes[k];
  return string(fmt::format("{:.1f} {}{}", base * bytes / static_cast<double>(unit), prefix, binary ? "iB" : "B"));
}

}  // namespace

const FilterTable& number_filters() {
  static const FilterTable kTable = {{"abs", {f_abs, false}},
                                     {"filesizeformat", {f_filesizeformat, true}},
                                     {"float", {f_float, true}},
                                     {"int", {f_int, true}},
                                     {"round", {f_round, true}}};
  return kTable;
}

}  // namespace loraine::jinja
