// Python's spelling of numbers and JSON; see python_number.h.
#include "loraine/train/records/python_number.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace loraine {

std::string python_repr(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x > 0 ? "inf" : "-inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::scientific).ptr;
  const std::string text(buffer, end);  // -d.ddde±xx
  const size_t e = text.find('e');
  const int exponent = std::atoi(text.c_str() + e + 1);
  const bool negative = text[0] == '-';
  std::string digits;
  for (size_t i = negative; i < e; ++i)
    if (text[i] != '.') digits += text[i];
  const int count = static_cast<int>(digits.size());
  std::string out = negative ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    out += digits.substr(0, 1);
    if (count > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02d}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return out + "0." + std::string(-exponent - 1, '0') + digits;
  if (count <= exponent + 1) return out + digits + std::string(exponent + 1 - count, '0') + ".0";
  return out + digits.substr(0, exponent + 1) + "." + digits.substr(exponent + 1);
}

std::string python_fixed(double x, int decimals) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x > 0 ? "inf" : "-inf";
  return fmt::format("{:.{}f}", x, decimals);
}

double python_round(double x, int decimals) {
  if (!std::isfinite(x)) return x;
  return std::strtod(python_fixed(x, decimals).c_str(), nullptr);  // both conversions are correctly rounded
}

std::string python_timedelta(double seconds) {
  // The range of int64 is far beyond any run; what is not a number counts as no time.
  const int64_t total = std::isfinite(seconds) ? static_cast<int64_t>(std::clamp(seconds, 0.0, 1e15)) : 0;
  const int64_t days = total / 86400, rest = total % 86400;
  const std::string clock = fmt::format("{}:{:02d}:{:02d}", rest / 3600, rest / 60 % 60, rest % 60);
  if (days == 0) return clock;
  return fmt::format("{} day{}, {}", days, days == 1 ? "" : "s", clock);
}

namespace {

void write_value(std::string& out, const OrderedJson& value, int indent, bool sort_keys, int depth) {
  const auto new_line = [&](int level) {
    if (indent >= 0) out += "\n" + std::string(static_cast<size_t>(indent) * level, ' ');
  };
  if (value.is_object()) {
    std::vector<std::pair<const std::string*, const OrderedJson*>> items;
    for (auto it = value.begin(); it != value.end(); ++it) items.emplace_back(&it.key(), &it.value());
    if (sort_keys) std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return *a.first < *b.first; });
    out += '{';
    bool first = true;
    for (const auto& [key, item] : items) {
      if (!first) out += indent >= 0 ? "," : ", ";
      first = false;
      new_line(depth + 1);
      out += OrderedJson(*key).dump(-1, ' ', true, OrderedJson::error_handler_t::replace) + ": ";
      write_value(out, *item, indent, sort_keys, depth + 1);
    }
    if (!first) new_line(depth);
    out += '}';
  } else if (value.is_array()) {
    out += '[';
    bool first = true;
    for (const OrderedJson& item : value) {
      if (!first) out += indent >= 0 ? "," : ", ";
      first = false;
      new_line(depth + 1);
      write_value(out, item, indent, sort_keys, depth + 1);
    }
    if (!first) new_line(depth);
    out += ']';
  } else if (value.is_number_float()) {
    const double x = value.get<double>();
    out += std::isnan(x) ? "NaN" : std::isinf(x) ? (x > 0 ? "Infinity" : "-Infinity") : python_repr(x);
  } else {
    out += value.dump(-1, ' ', true, OrderedJson::error_handler_t::replace);
  }
}

}  // namespace

std::string python_json(const OrderedJson& value, int indent, bool sort_keys) {
  std::string out;
  write_value(out, value, indent, sort_keys, 0);
  return out;
}

}  // namespace loraine
