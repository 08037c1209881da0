// Setting, checking and printing options that were described once. Called by train/config and cli/arguments.
#include "loraine/core/describe.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "loraine/core/error.h"

namespace loraine {
namespace {

template <class T>
struct Held {
  using type = T;
  static constexpr bool nullable = false;
};
template <class T>
struct Held<std::optional<T>> {
  using type = T;
  static constexpr bool nullable = true;
};

std::string joined(const std::vector<std::string>& items, const char* between = ", ") {
  return fmt::format("{}", fmt::join(items, between));
}

std::string number_text(double x) {
  if (std::isfinite(x) && x == std::floor(x) && std::abs(x) < 1e15) return fmt::format("{:.1f}", x);
  return fmt::format("{}", x);
}

[[noreturn]] void wrong(const Option& option, const Setting& setting, const std::string& expected) {
  std::string found = setting.bare ? "no value" : setting.typed ? setting.text : "'" + setting.text + "'";
  if (found.size() > 200) found = found.substr(0, 200) + "…";
  throw Error(ErrorKind::usage, fmt::format("{}: {} is {}, expected {}", setting.where, option.name, found, expected), option.help);
}

// A flag's words, as LLaMA-Factory's parser takes them: python's int(), float() and a fixed set of words for bool.
std::optional<bool> bool_word(std::string word) {
  for (char& c : word) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  for (const char* yes : {"yes", "true", "t", "y", "1"})
    if (word == yes) return true;
  for (const char* no : {"no", "false", "f", "n", "0"})
    if (word == no) return false;
  return std::nullopt;
}

// Underscores between digits, as python's int() and float() allow; nullopt when one stands elsewhere.
std::optional<std::string> plain_number(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  std::string out;
  auto digit = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || !digit(i - 1) || !digit(i + 1)) {
      return std::nullopt;
    }
  }
  if (!out.empty() && out[0] == '+' && out.size() > 1 && out[1] != '-') out.erase(0, 1);
  return out;
}

std::optional<int64_t> integer_word(std::string_view text) {
  auto plain = plain_number(text);
  int64_t value = 0;
  if (!plain || plain->empty()) return std::nullopt;
  auto [end, error] = std::from_chars(plain->data(), plain->data() + plain->size(), value);
  if (error != std::errc() || end != plain->data() + plain->size()) return std::nullopt;
  return value;
}

std::optional<double> number_word(std::string_view text) {
  auto plain = plain_number(text);
  double value = 0;
  if (!plain || plain->empty()) return std::nullopt;
  auto [end, error] = std::from_chars(plain->data(), plain->data() + plain->size(), value);
  if (error != std::errc() || end != plain->data() + plain->size()) return std::nullopt;
  return value;
}

std::optional<bool> to_bool(const Value& value, const Setting& setting) {
  if (setting.bare) return true;
  if (!setting.typed) return bool_word(setting.text);
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) return bool_word(value.get<std::string>());
  return std::nullopt;
}

std::optional<int64_t> to_integer(const Value& value, const Setting& setting) {
  if (!setting.typed) return integer_word(setting.text);
  if (value.is_number_integer()) {
    if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return value.get<int64_t>();
  }
  if (value.is_number_float()) {  // 1e3 is a whole number written as a float
    double x = value.get<double>();
    if (x == std::floor(x) && std::abs(x) < 9e15) return static_cast<int64_t>(x);
  }
  return std::nullopt;
}

std::optional<double> to_number(const Value& value, const Setting& setting) {
  if (!setting.typed) return number_word(setting.text);
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return number_word(value.get<std::string>());  // "1e-4" in quotes
  return std::nullopt;
}

std::optional<std::string> scalar_text(const Value& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_number()) return value.dump();
  return std::nullopt;
}

std::optional<std::string> to_text(const Value& value, const Setting& setting, const Limits& limits) {
  if (limits.json) {
    Value map = value;
    if (!setting.typed) map = Value::parse(setting.text, nullptr, false);
    if (setting.typed && value.is_string()) map = Value::parse(value.get<std::string>(), nullptr, false);
    if (!map.is_object()) return std::nullopt;
    return map.dump();
  }
  std::optional<std::string> text;
  if (!setting.typed) {
    text = setting.text;
  } else if (limits.comma_list && value.is_array()) {
    std::vector<std::string> items;
    for (const Value& item : value) {
      auto one = scalar_text(item);
      if (!one) return std::nullopt;
      items.push_back(*one);
    }
    text = joined(items, ",");
  } else {
    text = scalar_text(value);
  }
  if (text && !limits.choices.empty() && std::ranges::find(limits.choices, *text) == limits.choices.end()) {
    bool yes_no = (setting.typed && value.is_boolean()) || !setting.typed;  // YAML reads a bare `no` as false
    auto has = [&](const char* word) { return std::ranges::find(limits.choices, word) != limits.choices.end(); };
    if (yes_no && *text == "false" && has("no")) return "no";
    if (yes_no && *text == "true" && has("all")) return "all";
    return std::nullopt;
  }
  return text;
}

template <class T>
std::string bounds_text(const Limits& limits) {
  bool low = std::isfinite(limits.lowest), high = std::isfinite(limits.highest);
  auto show = [](double x) { return std::is_same_v<T, int64_t> ? fmt::format("{:.0f}", x) : fmt::format("{}", x); };
  if (low && high) return fmt::format(" from {} to {}", show(limits.lowest), show(limits.highest));
  if (low) return fmt::format(" of at least {}", show(limits.lowest));
  if (high) return fmt::format(" of at most {}", show(limits.highest));
  return "";
}

}  // namespace

bool is_bool(const Option& option) {
  return std::holds_alternative<bool*>(option.field) || std::holds_alternative<std::optional<bool>*>(option.field);
}

std::string type_text(const Option& option) {
  return std::visit(
      [&](auto* field) -> std::string {
        using Field = std::remove_pointer_t<decltype(field)>;
        using T = typename Held<Field>::type;
        std::string text;
        if constexpr (std::is_same_v<T, bool>) text = "true or false";
        if constexpr (std::is_same_v<T, int64_t>) text = "an integer" + bounds_text<T>(option.limits);
        if constexpr (std::is_same_v<T, double>) text = "a number" + bounds_text<T>(option.limits);
        if constexpr (std::is_same_v<T, std::string>) {
          const Limits& limits = option.limits;
          text = !limits.choices.empty() ? "one of: " + joined(limits.choices)
                 : limits.json           ? "a map"
                 : limits.comma_list     ? "a comma list"
                                         : "text";
        }
        return Held<Field>::nullable ? text + ", or null" : text;
      },
      option.field);
}

std::string value_text(const Option& option) {
  return std::visit(
      [](auto* field) -> std::string {
        using Field = std::remove_pointer_t<decltype(field)>;
        auto show = [](const auto& x) -> std::string {
          using T = std::remove_cvref_t<decltype(x)>;
          if constexpr (std::is_same_v<T, bool>) return x ? "true" : "false";
          else if constexpr (std::is_same_v<T, double>) return number_text(x);
          else if constexpr (std::is_same_v<T, int64_t>) return std::to_string(x);
          else return x;
        };
        if constexpr (Held<Field>::nullable) return *field ? show(**field) : "null";
        else return show(*field);
      },
      option.field);
}

void set_option(const Option& option, const Setting& setting) {
  Value value;
  if (setting.typed && !setting.bare) value = Value::parse(setting.text);
  if (setting.bare && !is_bool(option)) wrong(option, setting, type_text(option));
  std::visit(
      [&](auto* field) {
        using Field = std::remove_pointer_t<decltype(field)>;
        using T = typename Held<Field>::type;
        if constexpr (Held<Field>::nullable) {
          if (!setting.bare &&
              ((setting.typed && value.is_null()) || (!setting.typed && (setting.text == "null" || setting.text == "None")))) {
            field->reset();
            return;
          }
        }
        std::optional<T> found;
        if constexpr (std::is_same_v<T, bool>) found = to_bool(value, setting);
        if constexpr (std::is_same_v<T, int64_t>) found = to_integer(value, setting);
        if constexpr (std::is_same_v<T, double>) found = to_number(value, setting);
        if constexpr (std::is_same_v<T, std::string>) found = to_text(value, setting, option.limits);
        if (!found) wrong(option, setting, type_text(option));
        if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, double>) {
          double x = static_cast<double>(*found);
          if (!(x >= option.limits.lowest && x <= option.limits.highest)) wrong(option, setting, type_text(option));
        }
        if constexpr (std::is_same_v<T, std::string>) {
          const auto& built = option.limits.built;
          if (!built.empty() && std::ranges::find(built, *found) == built.end())
            throw Error(ErrorKind::unsupported,
                        fmt::format("{}: {} is {}, which LLaMA-Factory knows and loraine does not do yet; it does: {}", setting.where,
                                    option.name, *found, joined(built)),
                        option.help);
        }
        *field = *found;
      },
      option.field);
}

std::string nearest_word(std::string_view word, std::span<const std::string> known) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  if (word.size() > 100) return best;
  for (const std::string& candidate : known) {
    size_t n = word.size(), m = candidate.size();
    std::vector<std::vector<size_t>> d(n + 1, std::vector<size_t>(m + 1));
    for (size_t i = 0; i <= n; ++i) d[i][0] = i;
    for (size_t j = 0; j <= m; ++j) d[0][j] = j;
    for (size_t i = 1; i <= n; ++i)
      for (size_t j = 1; j <= m; ++j) {
        d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (word[i - 1] != candidate[j - 1])});
        if (i > 1 && j > 1 && word[i - 1] == candidate[j - 2] && word[i - 2] == candidate[j - 1])
          d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    if (d[n][m] < best_distance) {
      best_distance = d[n][m];
      best = candidate;
    }
  }
  return best;
}

std::string options_help(std::span<const Option> options, int columns) {
  std::string out, group;
  size_t width = static_cast<size_t>(std::clamp(columns, 60, 140));
  for (const Option& option : options) {
    if (option.group != group) {
      group = option.group;
      out += fmt::format("\n{}:\n", group);
    }
    std::string left = "  --" + option.name;
    std::string right =
        fmt::format("{} ({}; default {})", option.help, type_text(option), value_text(option).empty() ? "none" : value_text(option));
    constexpr size_t kIndent = 34;
    out += left;
    size_t at = left.size();
    if (at + 2 > kIndent) {
      out += '\n';
      at = 0;
    }
    out += std::string(kIndent - at, ' ');
    at = kIndent;
    size_t start = 0;
    while (start < right.size()) {
      size_t end = std::min(right.find(' ', start), right.size());
      size_t length = end - start;
      if (at > kIndent && at + 1 + length > width) {
        out += "\n" + std::string(kIndent, ' ');
        at = kIndent;
      }
      if (at > kIndent) {
        out += ' ';
        ++at;
      }
      out.append(right, start, length);
      at += length;
      start = end + 1;
    }
    out += '\n';
  }
  return out;
}

std::string options_markdown(std::span<const Option> options) {
  std::string out, group;
  for (const Option& option : options) {
    if (option.group != group) {
      group = option.group;
      out += fmt::format("\n### {}\n\n| key | default | value | meaning |\n|---|---|---|---|\n", group);
    }
    out += fmt::format("| `{}` | `{}` | {} | {} |\n", option.name, value_text(option), type_text(option), option.help);
  }
  return out;
}

}  // namespace loraine
