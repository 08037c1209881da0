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

// What to do about a wrong value: the choice that is near, or what counts without it.
std::string way_out(const Option& option, const Setting& setting) {
  const std::vector<std::string>& choices = option.limits.built.empty() ? option.limits.choices : option.limits.built;
  std::string word = setting.text;
  if (setting.typed && word.size() > 1 && word.front() == '"') word = word.substr(1, word.size() - 2);
  const std::string near = choices.empty() ? "" : nearest_word(word, choices), now = value_text(option);
  return (near.empty() ? "" : "did you mean '" + near + "'? ") + std::string("without it ") + option.name + " is " +
         (now.empty() || now == "null" ? "not set" : now);
}

[[noreturn]] void wrong(const Option& option, const Setting& setting, const std::string& expected, const std::string& hint) {
  std::string found = setting.bare ? "no value" : setting.typed ? setting.text : "'" + setting.text + "'";
  if (option.limits.secret && !setting.bare) found = "a value that is not shown";
  if (found.size() > 200) found = found.substr(0, 200) + "…";
  throw Error(ErrorKind::usage, fmt::format("{}: {} is {}, expected {}", setting.where, option.name, found, expected), hint);
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
  if (value.is_number_integer() && (value == 0 || value == 1)) return value == 1;
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

// The choice that a yes or no means, empty where none does.
std::string choice_of(bool yes, const std::vector<std::string>& choices) {
  for (const std::string& choice : choices)
    if (yes ? choice == "true" || choice == "all" : choice == "false" || choice == "no") return choice;
  return "";
}

std::optional<std::string> to_text(const Value& value, const Setting& setting, const Limits& limits) {
  if (setting.bare) return limits.yes_or_text ? "true" : choice_of(true, limits.choices);
  if (limits.json) {
    Value map = value;
    if (!setting.typed) map = Value::parse(setting.text, nullptr, false);
    if (setting.typed && value.is_string()) map = Value::parse(value.get<std::string>(), nullptr, false);
    if (map.is_object()) return map.dump();
    if (!limits.comma_list) return std::nullopt;
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
  const bool unknown = text && !limits.choices.empty() && std::ranges::find(limits.choices, *text) == limits.choices.end();
  if (!unknown && !(text && limits.yes_or_text)) return text;
  const std::optional<bool> yes = to_bool(value, setting);  // YAML reads a bare `no` as false
  if (limits.yes_or_text) return yes ? (*yes ? "true" : "false") : *text;
  const std::string choice = yes ? choice_of(*yes, limits.choices) : "";
  return choice.empty() ? std::nullopt : std::optional(choice);
}

std::string bound_text(double x) { return x == std::floor(x) && std::abs(x) < 1e16 ? fmt::format("{:.0f}", x) : fmt::format("{}", x); }

std::string bounds_text(const Limits& limits) {
  const bool low = std::isfinite(limits.lowest), high = std::isfinite(limits.highest);
  const std::string lowest = bound_text(limits.lowest), highest = bound_text(limits.highest);
  if (limits.above_lowest) return " above " + lowest + (high ? (limits.below_highest ? " and below " : " and at most ") + highest : "");
  if (low && high) return " from " + lowest + (limits.below_highest ? " to below " : " to ") + highest;
  if (low) return " of at least " + lowest;
  if (high) return (limits.below_highest ? " below " : " of at most ") + highest;
  return "";
}

template <class T>
std::string number_type(const Limits& limits) {
  if (!limits.numbers.empty()) return fmt::format("{}", fmt::join(limits.numbers, " or "));
  if (limits.share_or_count) {
    const bool zero = limits.lowest == 0 && !limits.above_lowest;
    return fmt::format("a share below 1, or a whole number from {} to {}", zero ? 0 : 1, bound_text(limits.highest));
  }
  return (std::is_same_v<T, int64_t> ? "an integer" : "a number") + bounds_text(limits);
}

std::string text_type(const Limits& limits) {
  if (!limits.choices.empty()) return "one of: " + joined(limits.built.empty() ? limits.choices : limits.built);
  if (limits.json) return limits.comma_list ? "a map or a comma list" : "a map";
  return limits.comma_list ? "a comma list" : limits.yes_or_text ? "text, true or false" : "text";
}

bool within(double x, const Limits& limits) {
  if (!std::isfinite(x) || x < limits.lowest || x > limits.highest) return false;
  if ((limits.above_lowest && x == limits.lowest) || (limits.below_highest && x == limits.highest)) return false;
  if (limits.share_or_count && x >= 1 && x != std::floor(x)) return false;
  return limits.numbers.empty() || std::ranges::find(limits.numbers, x) != limits.numbers.end();
}

bool written_with_point(const Setting& setting) { return setting.text.find_first_of(".eE") != std::string::npos; }

}  // namespace

std::optional<bool> yes_or_no(const Setting& setting) {
  return to_bool(setting.typed && !setting.bare ? Value::parse(setting.text) : Value(), setting);
}

bool is_switch(const Option& option) {
  if (std::holds_alternative<bool*>(option.field) || std::holds_alternative<std::optional<bool>*>(option.field)) return true;
  return option.limits.yes_or_text || !choice_of(true, option.limits.choices).empty();
}

std::string type_text(const Option& option) {
  return std::visit(
      [&](auto* field) -> std::string {
        using Field = std::remove_pointer_t<decltype(field)>;
        using T = typename Held<Field>::type;
        std::string text;
        if constexpr (std::is_same_v<T, bool>) text = "true or false";
        if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, double>) text = number_type<T>(option.limits);
        if constexpr (std::is_same_v<T, std::string>) text = text_type(option.limits);
        return Held<Field>::nullable ? text + ", or null" : text;
      },
      option.field);
}

std::string value_text(const Option& option) {
  if (const auto* text = std::get_if<std::optional<std::string>*>(&option.field); option.limits.secret && text && **text) return "(secret)";
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

void check_option(const Option& option, const std::string& where) {
  std::visit(
      [&](auto* field) {
        using Field = std::remove_pointer_t<decltype(field)>;
        using T = typename Held<Field>::type;
        if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, double>) {
          if constexpr (Held<Field>::nullable) {
            if (!*field || within(static_cast<double>(**field), option.limits)) return;
          } else {
            if (within(static_cast<double>(*field), option.limits)) return;
          }
          wrong(option, {.key = option.name, .text = value_text(option), .where = where}, type_text(option), "");
        }
      },
      option.field);
}

void set_option(const Option& option, const Setting& setting) {
  Value value;
  if (setting.typed && !setting.bare) value = Value::parse(setting.text);
  const auto refuse = [&](const std::string& expected) { wrong(option, setting, expected, way_out(option, setting)); };
  if (setting.bare && !is_switch(option)) refuse(type_text(option));
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
        if (!found) refuse(type_text(option));
        if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, double>) {
          const double x = static_cast<double>(*found);
          if (!within(x, option.limits)) refuse(type_text(option));
          if (option.limits.point_is_share && x == 1 && written_with_point(setting))
            refuse("1 for one, or a share below 1: written with a point it could be either");
        }
        if constexpr (std::is_same_v<T, std::string>) {
          const auto& built = option.limits.built;
          if (!built.empty() && std::ranges::find(built, *found) == built.end())
            throw Error(ErrorKind::unsupported,
                        fmt::format("{}: {} is {}, which LLaMA-Factory knows and loraine does not do yet; it does: {}", setting.where,
                                    option.name, *found, joined(built)),
                        way_out(option, setting));
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
