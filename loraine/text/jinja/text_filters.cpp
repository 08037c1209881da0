// Jinja's filters over text: escape, indent, tojson, format and their kin.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/text/jinja/eval.h"
#include "loraine/text/jinja/filters.h"
#include "loraine/text/jinja/markup.h"
#include "loraine/text/jinja/text.h"

namespace loraine::jinja {
namespace {

Value f_escape(Engine&, const Value& value, Args&) { return string(escaped(value), true); }

Value f_forceescape(Engine&, const Value& value, Args&) { return string(escape(to_text(value)), true); }

Value f_safe(Engine&, const Value& value, Args&) { return string(to_text(value), true); }

Value f_string(Engine&, const Value& value, Args&) { return value.is_string() ? value : string(to_text(value)); }

Value f_indent(Engine&, const Value& value, Args& args) {
  if (value.undefined()) fail_undefined(value);
  if (!value.is_string()) fail("TypeError", "indent needs a text, not " + type_name(value));
  auto a = bind_args("do_indent", args, {"width", "first", "blank"});
  const bool safe = is_safe(value), safe_width = is_safe(a[0]);
  std::string indention = given(a[0]) && a[0].is_string() ? a[0].text() : pad("", given(a[0]) ? as_integer(a[0]) : 4, " ", '>');
  const std::string text = to_text(value) + "\n";
  std::vector<std::string_view> lines = split_lines(text, false);
  const bool blank = truthy(a[2]), first = truthy(a[1]);
  std::string out;
  for (size_t k = 0; k < lines.size(); ++k) {
    const bool indented = k && (blank || !lines[k].empty());
    if (k) append(out, "\n");
    if (indented) append(out, indention);
    const bool meets_markup = safe_width && !safe && (blank || indented);  // a marked width escapes the lines it is put before
    append(out, meets_markup ? escape(std::string(lines[k])) : std::string(lines[k]));
  }
  const bool all_safe = safe || (safe_width && blank);
  if (first) return string(indention + (safe_width && !all_safe ? escape(out) : out), safe || safe_width);
  return string(std::move(out), all_safe);
}

Value f_title(Engine&, const Value& value, Args&) {
  std::string out, word;
  auto flush = [&] {
    if (word.empty()) return;
    auto first = std::string_view(word).substr(0, code_point_end(word, 0));
    out += upper(std::string(first)) + lower(word.substr(first.size()));
    word.clear();
  };
  const std::string text = to_text(value);
  for (auto s : CodePoints(text)) {
    bool separator = is_space(decode(s)) || s == "-" || s == "(" || s == "{" || s == "[" || s == "<";
    if (separator) flush();
    (separator ? out : word) += s;
  }
  flush();
  return string(std::move(out));
}

Value f_truncate(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_truncate", args, {"length", "killwords", "end", "leeway"});
  const std::string text = value.is_string() ? value.text() : "", end = given(a[2]) ? to_text(a[2]) : "...";
  int64_t width = given(a[0]) ? as_integer(a[0]) : 255, leeway = absent(a[3]) ? 5 : as_integer(a[3]), n = length(value);
  if (width < count_code_points(end)) fail("AssertionError", fmt::format("expected length >= {}, got {}", count_code_points(end), width));
  if (leeway < 0) fail("AssertionError", fmt::format("expected leeway >= 0, got {}", leeway));
  if (n - leeway <= width) return value;
  if (!value.is_string()) fail("TypeError", "truncate needs a text, not " + type_name(value));
  std::string cut = slice(string(text), none(), integer(width - count_code_points(end)), none()).text();
  if (!truthy(a[1])) cut = cut.substr(0, cut.rfind(' '));
  return binary("+", string(std::move(cut), is_safe(value)), string(end, is_safe(a[2])));
}

Value f_wordcount(Engine&, const Value& value, Args&) {
  int64_t n = 0;
  bool inside = false;
  const std::string text = to_text(value);
  for (auto s : CodePoints(text)) {
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
  if (absent(a[0])) return string(std::string(strip(text, true, true)), is_safe(value));
  const std::string characters = to_text(a[0]);
  return string(std::string(strip(text, true, true, &characters)), is_safe(value));
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

// json.loads for texts; what is no text any more (arguments that were read already) stays as it is. Not Jinja2's and not transformers',
// but published templates ask for it under either name, for the arguments of tool calls.
Value f_from_json(Engine&, const Value& value, Args&) {
  if (value.undefined()) fail_undefined(value);
  return value.is_string() ? read_json(value.text()) : value;
}

Value f_urlencode(Engine&, const Value& value, Args&) {
  std::string out;
  auto quote = [&](const std::string& text, bool query) {
    charge(static_cast<int64_t>(text.size() / 2));
    for (unsigned char c : text) {
      append(out, "");
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
  const Value format = string(to_text(value), is_safe(value));
  if (args.named.empty()) return percent_format(format, list(args.positional, Type::Tuple));
  std::vector<std::pair<Value, Value>> entries;
  for (auto& [name, item] : args.named) entries.emplace_back(string(name), item);
  return percent_format(format, dict(std::move(entries)));
}

Value f_attr(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_attr", args, {"name"}, 1);
  std::string name = to_text(a[0]);
  if (value.type == Type::Dict && method_access(value, name) == Access::missing)
    return undefined(fmt::format("'dict object' has no attribute '{}'", name));
  return get_attribute(engine, value, name);
}

Value f_default(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_default", args, {"default_value", "boolean"});
  bool replace = value.undefined() || (truthy(a[1]) && !truthy(value));
  return replace ? (given(a[0]) || !args.positional.empty() ? a[0] : string("")) : value;
}

template <std::string (*change)(const std::string&)>
Value text_filter(Engine&, const Value& value, Args&) {
  return string(change(to_text(value)), is_safe(value));
}

}  // namespace

const FilterTable& text_filters() {
  static const FilterBody kCenter = [](Engine&, const Value& v, Args& args) {
    auto a = bind_args("do_center", args, {"width"});
    return string(pad(to_text(v), given(a[0]) ? as_integer(a[0]) : 80, " ", 'c'), is_safe(v));
  };
  static const FilterBody kPprint = [](Engine&, const Value& v, Args&) { return string(repr(v)); };
  static const FilterTable kTable = {{"attr", {f_attr, true}},
                                     {"capitalize", {text_filter<capitalize>, false}},
                                     {"center", {kCenter, true}},
                                     {"d", {f_default, true}},
                                     {"default", {f_default, true}},
                                     {"e", {f_escape, false}},
                                     {"escape", {f_escape, false}},
                                     {"forceescape", {f_forceescape, false}},
                                     {"from_json", {f_from_json, false}},
                                     {"fromjson", {f_from_json, false}},
                                     {"format", {f_format, true}},
                                     {"indent", {f_indent, true}},
                                     {"lower", {text_filter<lower>, false}},
                                     {"pprint", {kPprint, false}},
                                     {"replace", {f_replace, true}},
                                     {"safe", {f_safe, false}},
                                     {"string", {f_string, false}},
                                     {"title", {f_title, false}},
                                     {"tojson", {f_tojson, true}},
                                     {"trim", {f_trim, true}},
                                     {"truncate", {f_truncate, true}},
                                     {"upper", {text_filter<upper>, false}},
                                     {"urlencode", {f_urlencode, false}},
                                     {"wordcount", {f_wordcount, false}}};
  return kTable;
}

}  // namespace loraine::jinja
