// Jinja's filters and tests. The parser asks for their names, the evaluator applies them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "loraine/text/jinja_builtins.h"
#include "loraine/text/jinja_eval.h"
#include "loraine/text/jinja_text.h"

namespace loraine::jinja {
namespace {

using FilterBody = Value (*)(Engine&, const Value&, Args&);
using TestBody = bool (*)(const Value&, Args&);

bool absent(const Value& v) { return !given(v) || v.type == Type::None; }
Value generator(std::vector<Value> items) { return list(std::move(items), Type::Generator); }

// A function that gets the attribute of `map(attribute=…)`, `sort(attribute=…)`: a dotted path or an index.
Value get_path(Engine& engine, Value item, const Value& path, const Value& otherwise = {}) {
  if (absent(path)) return item;
  if (path.is_integral()) return get_item(&engine, item, path);
  const std::string text = to_text(path);
  for (size_t at = 0; at <= text.size();) {
    size_t end = std::min(text.find('.', at), text.size());
    std::string part = text.substr(at, end - at);
    bool number = !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos;
    item = get_item(&engine, item, number ? integer(std::stoll(part)) : string(part));
    if (given(otherwise) && otherwise.type != Type::None && item.undefined()) item = otherwise;
    at = end + 1;
  }
  return item;
}

Value fold(const Value& value, bool case_sensitive) { return !case_sensitive && value.is_string() ? string(lower(value.text())) : value; }

void sort_by(std::vector<std::pair<Value, Value>>& keyed, bool reverse) {
  charge(static_cast<int64_t>(keyed.size()));
  std::stable_sort(keyed.begin(), keyed.end(),
                   [&](const auto& a, const auto& b) { return reverse ? less(b.first, a.first, "<") : less(a.first, b.first, "<"); });
}

Value f_sort(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_sort", args, {"reverse", "case_sensitive", "attribute"});
  std::vector<std::string> paths;
  if (!absent(a[2]) && a[2].is_string()) {
    const std::string& text = a[2].text();
    for (size_t at = 0; at <= text.size();) {
      size_t end = std::min(text.find(',', at), text.size());
      paths.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : iterate(value)) {
    Value key;
    if (paths.size() > 1) {
      std::vector<Value> parts;
      for (const std::string& path : paths) parts.push_back(fold(get_path(engine, item, string(path)), truthy(a[1])));
      key = list(std::move(parts), Type::Tuple);
    } else {
      key = fold(get_path(engine, item, a[2]), truthy(a[1]));
    }
    keyed.emplace_back(key, item);
  }
  // Python compares each item with the one before it, later < earlier; errors name the types in that order.
  for (size_t k = 1; k < keyed.size(); ++k) less(keyed[k].first, keyed[k - 1].first, "<");
  sort_by(keyed, truthy(a[0]));
  std::vector<Value> out;
  for (auto& entry : keyed) out.push_back(std::move(entry.second));
  return list(std::move(out));
}

Value f_dictsort(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_dictsort", args, {"case_sensitive", "by", "reverse"});
  if (value.type != Type::Dict) fail("TypeError", "dictsort needs a mapping, not " + type_name(value));
  std::string by = given(a[1]) ? to_text(a[1]) : "key";
  if (by != "key" && by != "value") fail("FilterArgumentError", "You can only sort by either \"key\" or \"value\"");
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, item] : as_dict(value).entries)
    keyed.emplace_back(fold(by == "key" ? key : item, truthy(a[0])), list({key, item}, Type::Tuple));
  sort_by(keyed, truthy(a[2]));
  std::vector<Value> out;
  for (auto& entry : keyed) out.push_back(std::move(entry.second));
  return list(std::move(out));
}

Value f_groupby(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : iterate(value)) keyed.emplace_back(fold(get_path(engine, item, a[0], a[1]), truthy(a[2])), item);
  sort_by(keyed, false);
  std::vector<Value> out;
  for (size_t k = 0; k < keyed.size();) {
    std::vector<Value> members;
    size_t first = k;
    for (; k < keyed.size() && equal(keyed[k].first, keyed[first].first); ++k) members.push_back(keyed[k].second);
    Value grouper = truthy(a[2]) ? keyed[first].first : get_path(engine, members[0], a[0], a[1]);
    Value group = list({grouper, list(std::move(members))}, Type::Tuple);
    static_cast<SequenceObject&>(*group.o).view = "group";
    out.push_back(group);
  }
  return list(std::move(out));
}

Value f_map(Engine& engine, const Value& value, Args& args) {
  std::vector<Value> out;
  if (args.positional.empty()) {
    auto a = bind_args("map", args, {"attribute", "default"});
    if (!given(a[0])) fail("FilterArgumentError", "map requires a filter argument");
    for (Value& item : iterate(value)) out.push_back(get_path(engine, item, a[0], a[1]));
    return generator(std::move(out));
  }
  std::string name = to_text(args.positional[0]);
  if (!is_filter(name)) fail("TemplateRuntimeError", "No filter named '" + name + "'.");
  Args rest{{args.positional.begin() + 1, args.positional.end()}, args.named};
  for (Value& item : iterate(value)) {
    Args copy = rest;
    out.push_back(apply_filter(engine, name, item, copy));
  }
  return generator(std::move(out));
}

// select, reject, selectattr, rejectattr
Value choose(Engine& engine, const Value& value, Args& args, bool by_attribute, bool keep) {
  Value path;
  size_t at = 0;
  if (by_attribute) {
    if (args.positional.empty()) fail("FilterArgumentError", "Missing parameter for attribute name");
    path = args.positional[at++];
  }
  std::string test;
  if (args.positional.size() > at) {
    test = to_text(args.positional[at++]);
    if (!is_test(test)) fail("TemplateRuntimeError", "No test named '" + test + "'.");
  }
  Args rest{{args.positional.begin() + static_cast<std::ptrdiff_t>(at), args.positional.end()}, args.named};
  std::vector<Value> out;
  for (Value& item : iterate(value)) {
    Value tested = get_path(engine, item, path);
    Args copy = rest;
    if ((test.empty() ? truthy(tested) : apply_test(test, tested, copy)) == keep) out.push_back(std::move(item));
  }
  return generator(std::move(out));
}

Value extreme(Engine& engine, const Value& value, Args& args, bool smallest) {
  auto a = bind_args(smallest ? "do_min" : "do_max", args, {"case_sensitive", "attribute"});
  Value best, best_key;
  bool first = true;
  for (Value& item : iterate(value)) {
    Value key = fold(get_path(engine, item, a[1]), truthy(a[0]));
    if (first || (smallest ? less(key, best_key, "<") : less(best_key, key, ">"))) best = item, best_key = key;
    first = false;
  }
  return first ? undefined("No aggregated item, sequence was empty.") : best;
}

Value f_sum(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_sum", args, {"attribute", "start"});
  Value total = given(a[1]) ? a[1] : integer(0);
  for (Value& item : iterate(value)) total = binary("+", total, get_path(engine, item, a[0]));
  return total;
}

Value f_unique(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_unique", args, {"case_sensitive", "attribute"});
  DictObject seen;
  std::vector<Value> out;
  for (Value& item : iterate(value)) {
    Value key = fold(get_path(engine, item, a[1]), truthy(a[0]));
    if (seen.find(key)) continue;
    seen.set(key, none());
    out.push_back(item);
  }
  return generator(std::move(out));
}

Value f_join(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_join", args, {"d", "attribute"});
  std::string separator = given(a[0]) ? to_text(a[0]) : "", out;
  bool first = true;
  for (Value& item : iterate(value)) {
    if (!first) out += separator;
    first = false;
    out += to_text(get_path(engine, item, a[1]));
    if (out.size() > (size_t{1} << 20)) charge_bytes(static_cast<int64_t>(out.size() / 64));
    if (out.size() > (size_t{64} << 20)) charge_bytes(static_cast<int64_t>(out.size()));
  }
  return string(std::move(out));
}

Value f_batch(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_batch", args, {"linecount", "fill_with"}, 1);
  int64_t size = as_integer(a[0]);
  std::vector<Value> out, row;
  for (Value& item : iterate(value)) {
    if (static_cast<int64_t>(row.size()) == size) out.push_back(list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    if (!absent(a[1]) && size > 100000) fail("OverflowError", "batch too big");
    while (!absent(a[1]) && static_cast<int64_t>(row.size()) < size) row.push_back(a[1]);
    out.push_back(list(std::move(row)));
  }
  return generator(std::move(out));
}

Value f_slice(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_slice", args, {"slices", "fill_with"}, 1);
  std::vector<Value> items = iterate(value), out;
  int64_t slices = as_integer(a[0]), n = static_cast<int64_t>(items.size()), at = 0;
  if (slices == 0) fail("ZeroDivisionError", "integer division or modulo by zero");
  if (slices > 100000) fail("OverflowError", "too many slices");
  for (int64_t k = 0; k < slices; ++k) {
    int64_t size = n / slices + (k < n % slices);
    std::vector<Value> row(items.begin() + at, items.begin() + at + size);
    if (!absent(a[1]) && k >= n % slices) row.push_back(a[1]);
    out.push_back(list(std::move(row)));
    at += size;
  }
  return generator(std::move(out));
}

Value f_first(Engine&, const Value& value, Args&) {
  std::vector<Value> items = iterate(value);
  return items.empty() ? undefined("No first item, sequence was empty.") : items.front();
}
Value f_last(Engine&, const Value& value, Args&) {
  if (value.type == Type::Generator) fail("TypeError", "'generator' object is not reversible");
  std::vector<Value> items = iterate(value);
  return items.empty() ? undefined("No last item, sequence was empty.") : items.back();
}
Value f_reverse(Engine&, const Value& value, Args&) {
  std::vector<Value> items = iterate(value);
  std::reverse(items.begin(), items.end());
  if (!value.is_string()) return generator(std::move(items));
  std::string out;
  for (const Value& item : items) out += item.text();
  return string(std::move(out));
}

Value f_items(Engine&, const Value& value, Args&) {
  if (value.undefined()) return generator({});
  if (value.type != Type::Dict) fail("TypeError", "Can only get item pairs from a mapping.");
  std::vector<Value> out;
  for (const auto& [key, item] : as_dict(value).entries) out.push_back(list({key, item}, Type::Tuple));
  return generator(std::move(out));
}

Value f_default(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_default", args, {"default_value", "boolean"});
  bool replace = value.undefined() || (truthy(a[1]) && !truthy(value));
  return replace ? (given(a[0]) || !args.positional.empty() ? a[0] : string("")) : value;
}

// Python's int(text, base); nullopt when it is not one.
std::optional<int64_t> parse_int(std::string_view text, int base) {
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
  int64_t x = 0;
  bool digit_before = false;
  for (char c : s) {
    if (c == '_' && digit_before) {
      digit_before = false;
      continue;
    }
    int d = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? (c | 0x20) - 'a' + 10 : 99;
    if (d >= base) return std::nullopt;
    if (__builtin_mul_overflow(x, static_cast<int64_t>(base), &x) || __builtin_sub_overflow(x, static_cast<int64_t>(d), &x))
      fail("OverflowError", "an integer beyond 64 bits");
    digit_before = true;
  }
  if (!digit_before) return std::nullopt;
  if (negative) return x;
  if (x == INT64_MIN) fail("OverflowError", "an integer beyond 64 bits");
  return -x;
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
  if (value.is_integral()) return integer(value.integer());
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
  if (std::fabs(x) >= 9.2e18) fail("OverflowError", "an integer beyond 64 bits");
  return integer(static_cast<int64_t>(x));
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
  if (value.is_integral() && precision >= 0) return integer(value.integer());
  if (!std::isfinite(x)) return real(x);
  double rounded;
  if (precision >= 0) {
    rounded = std::strtod(fmt::format("{:.{}f}", x, precision).c_str(), nullptr);
  } else {
    double unit = std::pow(10.0, static_cast<double>(-precision));
    rounded = std::nearbyint(x / unit) * unit;
  }
  return value.is_integral() ? integer(static_cast<int64_t>(rounded)) : real(rounded);
}

Value f_abs(Engine&, const Value& value, Args&) {
  if (value.undefined()) fail_undefined(value);
  if (value.type == Type::Float) return real(std::fabs(value.d));
  if (!value.is_integral()) fail("TypeError", "bad operand type for abs(): '" + type_name(value) + "'");
  return value.integer() < 0 ? binary("-", integer(0), value) : integer(value.integer());
}

std::string escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '\'') out += "&#39;";
    else if (c == '"') out += "&#34;";
    else out += c;
  }
  return out;
}
bool is_safe(const Value& value) { return value.is_string() && static_cast<const StringObject&>(*value.o).safe; }
Value f_escape(Engine&, const Value& value, Args&) { return is_safe(value) ? value : string(escape(to_text(value)), true); }
Value f_forceescape(Engine&, const Value& value, Args&) { return string(escape(to_text(value)), true); }
Value f_safe(Engine&, const Value& value, Args&) { return string(to_text(value), true); }
Value f_string(Engine&, const Value& value, Args&) { return value.is_string() ? value : string(to_text(value)); }

Value f_indent(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_indent", args, {"width", "first", "blank"});
  std::string indention = given(a[0]) && a[0].is_string() ? a[0].text() : pad("", given(a[0]) ? as_integer(a[0]) : 4, " ", '>');
  std::vector<std::string> lines = split_lines(to_text(value) + "\n", false);
  std::string out = truthy(a[1]) ? indention : "";
  for (size_t k = 0; k < lines.size(); ++k) {
    if (k) out += "\n";
    if (k && (truthy(a[2]) || !lines[k].empty())) out += indention;
    out += lines[k];
    if (out.size() > (size_t{1} << 20)) charge_bytes(static_cast<int64_t>(indention.size() + 64));
  }
  return string(std::move(out));
}

Value f_title(Engine&, const Value& value, Args&) {
  std::string out, word;
  auto flush = [&] {
    if (word.empty()) return;
    auto first = split_code_points(word)[0];
    out += upper(std::string(first)) + lower(word.substr(first.size()));
    word.clear();
  };
  const std::string text = to_text(value);
  for (auto s : split_code_points(text)) {
    bool separator = is_space(decode(s)) || s == "-" || s == "(" || s == "{" || s == "[" || s == "<";
    if (separator) flush();
    (separator ? out : word) += s;
  }
  flush();
  return string(std::move(out));
}

Value f_truncate(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_truncate", args, {"length", "killwords", "end", "leeway"});
  const std::string text = to_text(value), end = given(a[2]) ? to_text(a[2]) : "...";
  int64_t width = given(a[0]) ? as_integer(a[0]) : 255, leeway = absent(a[3]) ? 5 : as_integer(a[3]), n = count_code_points(text);
  if (width < count_code_points(end)) fail("AssertionError", fmt::format("expected length >= {}, got {}", count_code_points(end), width));
  if (leeway < 0) fail("AssertionError", fmt::format("expected leeway >= 0, got {}", leeway));
  if (n - leeway <= width) return string(text);
  std::string cut = slice(string(text), none(), integer(width - count_code_points(end)), none()).text();
  if (!truthy(a[1])) cut = cut.substr(0, cut.rfind(' '));
  return string(cut + end);
}

Value f_wordcount(Engine&, const Value& value, Args&) {
  int64_t n = 0;
  bool inside = false;
  const std::string text = to_text(value);
  for (auto s : split_code_points(text)) {
    bool word = word_character(decode(s));
    n += word && !inside;
    inside = word;
  }
  return integer(n);
}

Value f_replace(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_replace", args, {"old", "new", "count"}, 2);
  return string(replace_all(to_text(value), to_text(a[0]), to_text(a[1]), absent(a[2]) ? -1 : as_integer(a[2])));
}

Value f_trim(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_trim", args, {"chars"});
  const std::string text = to_text(value);
  if (absent(a[0])) return string(std::string(strip(text, true, true)));
  const std::string characters = to_text(a[0]);
  return string(std::string(strip(text, true, true, &characters)));
}

Value f_tojson(Engine&, const Value& value, Args& args) {
  auto a = bind_args("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonOptions options;
  options.ensure_ascii = truthy(a[0]);
  options.sort_keys = truthy(a[3]);
  if (!absent(a[1])) {
    options.indent = a[1].is_string() ? a[1].text() : pad("", std::max<int64_t>(as_integer(a[1]), 0), " ", '>');
    options.item_separator = ",";
  }
  if (!absent(a[2])) {
    auto two = iterate(a[2]);
    if (two.size() != 2) fail("ValueError", "separators must be a pair");
    options.item_separator = to_text(two[0]);
    options.key_separator = to_text(two[1]);
  }
  return string(to_json(value, options));
}

Value f_urlencode(Engine&, const Value& value, Args&) {
  std::string out;
  auto quote = [&](const std::string& text, bool query) {
    for (unsigned char c : text) {
      if (std::isalnum(c) || c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !query)) out += static_cast<char>(c);
      else if (c == ' ' && query) out += '+';
      else out += fmt::format("%{:02X}", c);
    }
  };
  if (value.is_string() || !(value.type == Type::Dict || value.is_sequence())) quote(to_text(value), false);
  else
    for (const Value& entry :
         value.type == Type::Dict ? list(iterate(call_method(value, "items", *std::make_unique<Args>()))).items() : iterate(value)) {
      auto two = iterate(entry);
      if (two.size() != 2) fail("ValueError", "urlencode needs pairs");
      if (!out.empty()) out += '&';
      quote(to_text(two[0]), true);
      out += '=';
      quote(to_text(two[1]), true);
    }
  return string(std::move(out));
}

Value f_format(Engine&, const Value& value, Args& args) {
  if (!args.named.empty() && !args.positional.empty())
    fail("FilterArgumentError", "can't handle positional and keyword arguments at the same time");
  if (args.named.empty()) return percent_format(to_text(value), list(args.positional, Type::Tuple));
  std::vector<std::pair<Value, Value>> entries;
  for (auto& [name, item] : args.named) entries.emplace_back(string(name), item);
  return percent_format(to_text(value), dict(std::move(entries)));
}

Value f_attr(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_attr", args, {"name"}, 1);
  std::string name = to_text(a[0]);
  if (value.type == Type::Dict && method_access(value, name) == Access::missing)
    return undefined(fmt::format("'dict object' has no attribute '{}'", name));
  return get_attribute(engine, value, name);
}

template <std::string (*change)(const std::string&)>
Value text_filter(Engine&, const Value& value, Args&) {
  return string(change(to_text(value)));
}

struct FilterEntry {
  FilterBody body;
  bool takes_arguments;
};

const std::map<std::string, FilterEntry>& filters() {
  static const FilterBody kLength = [](Engine&, const Value& v, Args&) { return integer(length(v)); };
  static const FilterBody kSelect = [](Engine& e, const Value& v, Args& a) { return choose(e, v, a, false, true); };
  static const FilterBody kReject = [](Engine& e, const Value& v, Args& a) { return choose(e, v, a, false, false); };
  static const FilterBody kSelectAttr = [](Engine& e, const Value& v, Args& a) { return choose(e, v, a, true, true); };
  static const FilterBody kRejectAttr = [](Engine& e, const Value& v, Args& a) { return choose(e, v, a, true, false); };
  static const FilterBody kMin = [](Engine& e, const Value& v, Args& a) { return extreme(e, v, a, true); };
  static const FilterBody kMax = [](Engine& e, const Value& v, Args& a) { return extreme(e, v, a, false); };
  static const FilterBody kList = [](Engine&, const Value& v, Args&) { return list(iterate(v)); };
  static const FilterBody kPprint = [](Engine&, const Value& v, Args&) { return string(repr(v)); };
  static const FilterBody kCenter = [](Engine&, const Value& v, Args& args) {
    auto a = bind_args("do_center", args, {"width"});
    return string(pad(to_text(v), given(a[0]) ? as_integer(a[0]) : 80, " ", 'c'));
  };
  static const std::map<std::string, FilterEntry> kFilters = {{"abs", {f_abs, false}},
                                                              {"attr", {f_attr, true}},
                                                              {"batch", {f_batch, true}},
                                                              {"capitalize", {text_filter<capitalize>, false}},
                                                              {"center", {kCenter, true}},
                                                              {"count", {kLength, false}},
                                                              {"d", {f_default, true}},
                                                              {"default", {f_default, true}},
                                                              {"dictsort", {f_dictsort, true}},
                                                              {"e", {f_escape, false}},
                                                              {"escape", {f_escape, false}},
                                                              {"first", {f_first, false}},
                                                              {"float", {f_float, true}},
                                                              {"forceescape", {f_forceescape, false}},
                                                              {"format", {f_format, true}},
                                                              {"groupby", {f_groupby, true}},
                                                              {"indent", {f_indent, true}},
                                                              {"int", {f_int, true}},
                                                              {"items", {f_items, false}},
                                                              {"join", {f_join, true}},
                                                              {"last", {f_last, false}},
                                                              {"length", {kLength, false}},
                                                              {"list", {kList, false}},
                                                              {"lower", {text_filter<lower>, false}},
                                                              {"map", {f_map, true}},
                                                              {"max", {kMax, true}},
                                                              {"min", {kMin, true}},
                                                              {"pprint", {kPprint, false}},
                                                              {"reject", {kReject, true}},
                                                              {"rejectattr", {kRejectAttr, true}},
                                                              {"replace", {f_replace, true}},
                                                              {"reverse", {f_reverse, false}},
                                                              {"round", {f_round, true}},
                                                              {"safe", {f_safe, false}},
                                                              {"select", {kSelect, true}},
                                                              {"selectattr", {kSelectAttr, true}},
                                                              {"slice", {f_slice, true}},
                                                              {"sort", {f_sort, true}},
                                                              {"string", {f_string, false}},
                                                              {"sum", {f_sum, true}},
                                                              {"title", {f_title, false}},
                                                              {"tojson", {f_tojson, true}},
                                                              {"trim", {f_trim, true}},
                                                              {"truncate", {f_truncate, true}},
                                                              {"unique", {f_unique, true}},
                                                              {"upper", {text_filter<upper>, false}},
                                                              {"urlencode", {f_urlencode, false}},
                                                              {"wordcount", {f_wordcount, false}}};
  return kFilters;
}

// ---- tests

const Value& operand(Args& args) {
  if (args.positional.size() != 1 || !args.named.empty()) fail("TypeError", "the test takes one argument");
  return args.positional[0];
}
int64_t modulo(const Value& value, const Value& by) {
  Value r = binary("%", value, by);
  if (!r.is_number()) return 1;
  return r.number() == 0 ? 0 : r.number() == 1 ? 1 : 2;
}
template <Type type>
bool of_type(const Value& value, Args&) {
  return value.type == type;
}
bool same(const Value& a, const Value& b) {
  if (a.type != b.type) return false;
  if (a.o || b.o) return a.o == b.o || (a.is_string() && a.text() == b.text());
  return a.type == Type::None || equal(a, b);
}

const std::map<std::string, TestBody>& tests() {
  static const TestBody kEq = [](const Value& v, Args& a) { return equal(v, operand(a)); };
  static const TestBody kNe = [](const Value& v, Args& a) { return !equal(v, operand(a)); };
  static const TestBody kLt = [](const Value& v, Args& a) { return compare(v, operand(a), "<"); };
  static const TestBody kLe = [](const Value& v, Args& a) { return compare(v, operand(a), "<="); };
  static const TestBody kGt = [](const Value& v, Args& a) { return compare(v, operand(a), ">"); };
  static const TestBody kGe = [](const Value& v, Args& a) { return compare(v, operand(a), ">="); };
  static const std::map<std::string, TestBody> kTests = {
      {"defined", [](const Value& v, Args&) { return !v.undefined(); }},
      {"undefined", [](const Value& v, Args&) { return v.undefined(); }},
      {"none", of_type<Type::None>},
      {"boolean", of_type<Type::Bool>},
      {"integer", of_type<Type::Int>},
      {"float", of_type<Type::Float>},
      {"string", of_type<Type::String>},
      {"mapping", of_type<Type::Dict>},
      {"true", [](const Value& v, Args&) { return v.type == Type::Bool && v.b; }},
      {"false", [](const Value& v, Args&) { return v.type == Type::Bool && !v.b; }},
      {"number", [](const Value& v, Args&) { return v.is_number(); }},
      {"iterable", [](const Value& v, Args&) { return v.undefined() || v.is_string() || v.type == Type::Dict || v.is_sequence(); }},
      {"sequence",
       [](const Value& v, Args&) {
         return v.undefined() || v.is_string() || v.type == Type::Dict || v.type == Type::List || v.type == Type::Tuple ||
                v.type == Type::Range;
       }},
      {"callable", [](const Value& v,
                      Args&) { return v.undefined() || (v.type == Type::Object && static_cast<const CallableObject&>(*v.o).callable()); }},
      {"odd", [](const Value& v, Args&) { return modulo(v, integer(2)) == 1; }},
      {"even", [](const Value& v, Args&) { return modulo(v, integer(2)) == 0; }},
      {"divisibleby", [](const Value& v, Args& a) { return modulo(v, operand(a)) == 0; }},
      {"lower", [](const Value& v, Args&) { return is_class(to_text(v), "islower"); }},
      {"upper", [](const Value& v, Args&) { return is_class(to_text(v), "isupper"); }},
      {"sameas", [](const Value& v, Args& a) { return same(v, operand(a)); }},
      {"escaped", [](const Value& v, Args&) { return is_safe(v); }},
      {"in", [](const Value& v, Args& a) { return contains(v, operand(a)); }},
      {"filter", [](const Value& v, Args&) { return v.is_string() && is_filter(v.text()); }},
      {"test", [](const Value& v, Args&) { return v.is_string() && is_test(v.text()); }},
      {"==", kEq},
      {"eq", kEq},
      {"equalto", kEq},
      {"!=", kNe},
      {"ne", kNe},
      {"<", kLt},
      {"lt", kLt},
      {"lessthan", kLt},
      {"<=", kLe},
      {"le", kLe},
      {">", kGt},
      {"gt", kGt},
      {"greaterthan", kGt},
      {">=", kGe},
      {"ge", kGe}};
  return kTests;
}
}  // namespace

bool is_filter(const std::string& name) { return filters().count(name) != 0; }
bool is_test(const std::string& name) { return tests().count(name) != 0; }

Value apply_filter(Engine& engine, const std::string& name, const Value& subject, Args& args) {
  charge(1);
  const FilterEntry& entry = filters().at(name);
  if (!entry.takes_arguments && !(args.positional.empty() && args.named.empty()))
    fail("TypeError",
         fmt::format("do_{}() takes 1 positional argument but {} were given", name, 1 + args.positional.size() + args.named.size()));
  return entry.body(engine, subject, args);
}

bool apply_test(const std::string& name, const Value& subject, Args& args) {
  charge(1);
  static const char* const kWithArgument[] = {"divisibleby", "sameas", "in"};
  bool compares = tests().at(name) == tests().at("eq");
  for (const char* with : kWithArgument) compares = compares || name == with;
  for (const char* with : {"ne", "lt", "le", "gt", "ge"}) compares = compares || tests().at(name) == tests().at(with);
  if (!compares && !(args.positional.empty() && args.named.empty()))
    fail("TypeError", fmt::format("test_{}() takes 1 positional argument but {} were given", name, 1 + args.positional.size()));
  return tests().at(name)(subject, args);
}

}  // namespace loraine::jinja
