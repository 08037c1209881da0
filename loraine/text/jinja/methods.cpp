// The methods of str, list, tuple and dict, with Python's results. Called by the evaluator and the filters of the Jinja engine.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/text/jinja/builtins.h"
#include "loraine/text/jinja/markup.h"
#include "loraine/text/jinja/text.h"

namespace loraine::jinja {

std::vector<Value> bind_args(const char* function, Args& args, std::initializer_list<const char*> names, size_t required) {
  std::vector<Value> out(names.size());
  if (args.positional.size() > names.size())
    fail("TypeError", fmt::format("{}() takes at most {} argument(s) but {} were given", function, names.size(), args.positional.size()));
  for (size_t k = 0; k < args.positional.size(); ++k) out[k] = args.positional[k];
  std::vector<bool> set(names.size(), false);
  for (auto& [name, value] : args.named) {
    size_t k = 0;
    for (const char* known : names) {
      if (name == known) break;
      ++k;
    }
    if (k == names.size()) fail("TypeError", fmt::format("{}() got an unexpected keyword argument '{}'", function, name));
    if (k < args.positional.size()) fail("TypeError", fmt::format("{}() got multiple values for argument '{}'", function, name));
    out[k] = value;
    set[k] = true;
  }
  for (size_t k = args.positional.size(); k < required; ++k)
    if (!set[k]) fail("TypeError", fmt::format("{}() missing {} required positional argument(s)", function, required - k));
  return out;
}

namespace {

const std::string& need_string(const Value& value, const char* what) {
  if (!value.is_string()) fail("TypeError", fmt::format("{} must be str, not {}", what, type_name(value)));
  return value.text();
}

Value string_list(const std::vector<std::string_view>& parts, Type type = Type::List) {
  std::vector<Value> items;
  charge_bytes(static_cast<int64_t>(parts.size() * sizeof(Value)));
  items.reserve(parts.size());
  for (std::string_view part : parts) items.push_back(string(std::string(part)));
  return list(std::move(items), type);
}

Value split(const std::string& text, const Value& separator, int64_t limit, bool from_right) {
  std::vector<std::string_view> parts;
  if (limit < 0) limit = INT64_MAX;
  if (!given(separator) || separator.type == Type::None) return string_list(split_words(text, limit, from_right));
  const std::string& by = need_string(separator, "separator");
  if (by.empty()) fail("ValueError", "empty separator");
  charge(static_cast<int64_t>(text.size() / 16));
  if (!from_right) {
    size_t at = 0;
    for (size_t hit; limit > 0 && (hit = find_text(text, by, at)) != std::string::npos; --limit, at = hit + by.size()) {
      charge_bytes(128);  // what the part will need as a value, so that there are not too many
      parts.push_back(std::string_view(text).substr(at, hit - at));
    }
    parts.push_back(std::string_view(text).substr(at));
    return string_list(parts);
  }
  // From the right: the same on the text read backwards, so that the time stays linear.
  std::string backwards(text.rbegin(), text.rend()), separator_backwards(by.rbegin(), by.rend());
  charge_bytes(static_cast<int64_t>(text.size()));
  size_t at = 0;
  auto part = [&](size_t end) {
    charge_bytes(128);
    parts.push_back(std::string_view(text).substr(text.size() - end, end - at));
  };
  for (size_t hit; limit > 0 && (hit = find_text(backwards, separator_backwards, at)) != std::string::npos; --limit, at = hit + by.size())
    part(hit);
  part(text.size());
  std::reverse(parts.begin(), parts.end());
  return string_list(parts);
}

// text[begin:end] in code points, as find, count and startswith take it; `offset` is where it starts, in code points.
std::string window(const std::string& text, const Value& begin, const Value& end, int64_t* offset) {
  *offset = 0;
  auto absent = [](const Value& v) { return !given(v) || v.type == Type::None; };
  if (absent(begin) && absent(end)) return text;
  int64_t n = count_code_points(text);
  auto clamp = [&](const Value& v, int64_t otherwise) {
    if (absent(v)) return otherwise;
    int64_t k = as_integer(v);
    return std::clamp<int64_t>(k < 0 ? k + n : k, 0, n);
  };
  int64_t from = clamp(begin, 0), to = clamp(end, n);
  *offset = from;
  return slice(string(text), integer(from), integer(std::max(from, to)), none()).text();
}

Value find(const std::string& name, const std::string& text, Args& args) {
  auto a = bind_args(name.c_str(), args, {"sub", "start", "end"}, 1);
  const std::string& part = need_string(a[0], "sub");
  int64_t offset;
  std::string where = window(text, a[1], a[2], &offset);
  charge(static_cast<int64_t>(where.size() / 16));
  bool right = name[0] == 'r';
  size_t hit = right ? find_last_text(where, part) : find_text(where, part);
  if (hit == std::string::npos) {
    if (name.ends_with("index")) fail("ValueError", "substring not found");
    return integer(-1);
  }
  return integer(offset + count_code_points(std::string_view(where).substr(0, hit)));
}

Value count(const std::string& text, Args& args) {
  auto a = bind_args("count", args, {"sub", "start", "end"}, 1);
  const std::string& part = need_string(a[0], "sub");
  int64_t offset;
  std::string where = window(text, a[1], a[2], &offset);
  charge(static_cast<int64_t>(where.size() / 16));
  if (part.empty()) return integer(count_code_points(where) + 1);
  int64_t n = 0;
  for (size_t at = 0; (at = find_text(where, part, at)) != std::string::npos; at += part.size()) ++n;
  return integer(n);
}

Value affix(const std::string& name, const std::string& text, Args& args) {
  auto a = bind_args(name.c_str(), args, {"prefix", "start", "end"}, 1);
  int64_t offset;
  std::string where = window(text, a[1], a[2], &offset);
  auto matches = [&](const Value& v) {
    const std::string& part = need_string(v, (name + " first arg").c_str());
    return name == "startswith" ? where.starts_with(part) : where.ends_with(part);
  };
  if (a[0].type != Type::Tuple) {
    if (!a[0].is_string()) fail("TypeError", fmt::format("{} first arg must be str or a tuple of str, not {}", name, type_name(a[0])));
    return boolean(matches(a[0]));
  }
  for (const Value& v : a[0].items())
    if (matches(v)) return boolean(true);
  return boolean(false);
}

Value partition(const std::string& text, Args& args, bool right) {
  auto a = bind_args("partition", args, {"sep"}, 1);
  const std::string& by = need_string(a[0], "sep");
  if (by.empty()) fail("ValueError", "empty separator");
  size_t hit = right ? find_last_text(text, by) : find_text(text, by);
  if (hit == std::string::npos) return right ? string_list({"", "", text}, Type::Tuple) : string_list({text, "", ""}, Type::Tuple);
  return string_list({std::string_view(text).substr(0, hit), by, std::string_view(text).substr(hit + by.size())}, Type::Tuple);
}

Value join(const std::string& separator, Args& args) {
  auto a = bind_args("join", args, {"iterable"}, 1);
  std::string out;
  std::vector<Value> items = iterate(a[0]);
  for (size_t k = 0; k < items.size(); ++k) {
    if (!items[k].is_string()) fail("TypeError", fmt::format("sequence item {}: expected str instance, {} found", k, type_name(items[k])));
    if (k) append(out, separator);
    append(out, items[k].text());
  }
  return string(std::move(out));
}

Value padded(const std::string& name, const std::string& text, Args& args) {
  auto a = bind_args(name.c_str(), args, {"width", "fillchar"}, 1);
  std::string fill = given(a[1]) ? need_string(a[1], "fillchar") : " ";
  if (count_code_points(fill) != 1) fail("TypeError", "The fill character must be exactly one character long");
  return string(pad(text, as_integer(a[0]), fill, name == "ljust" ? '<' : name == "rjust" ? '>' : 'c'));
}

Value stripped(const std::string& name, const std::string& text, Args& args) {
  auto a = bind_args(name.c_str(), args, {"chars"});
  bool left = name != "rstrip", right = name != "lstrip";
  if (!given(a[0]) || a[0].type == Type::None) return string(std::string(strip(text, left, right)));
  if (!a[0].is_string()) fail("TypeError", name + " arg must be None or str");
  return string(std::string(strip(text, left, right, &a[0].text())));
}

std::string expand_tabs(const std::string& text, int64_t size) {
  std::string out;
  int64_t column = 0;
  for (std::string_view c : CodePoints(text)) {
    if (c != "\t") {
      append(out, c);
      column = c == "\n" || c == "\r" ? 0 : column + 1;
      continue;
    }
    int64_t blanks = size > 0 ? size - column % size : 0;
    append(out, pad("", blanks, " ", '>'));
    column += blanks;
  }
  return out;
}

Value string_method(const std::string& text, const std::string& name, Args& args) {
  charge(static_cast<int64_t>(text.size() / 64));
  charge_bytes(static_cast<int64_t>(text.size()));
  if (name == "split" || name == "rsplit") {
    auto a = bind_args(name.c_str(), args, {"sep", "maxsplit"});
    return split(text, a[0], given(a[1]) ? as_integer(a[1]) : -1, name == "rsplit");
  }
  if (name == "strip" || name == "lstrip" || name == "rstrip") return stripped(name, text, args);
  if (name == "startswith" || name == "endswith") return affix(name, text, args);
  if (name == "replace") {
    auto a = bind_args("replace", args, {"old", "new", "count"}, 2);
    return string(replace_all(text, need_string(a[0], "replace() argument 1"), need_string(a[1], "replace() argument 2"),
                              given(a[2]) ? as_integer(a[2]) : -1));
  }
  if (name == "find" || name == "rfind" || name == "index" || name == "rindex") return find(name, text, args);
  if (name == "count") return count(text, args);
  if (name == "join") return join(text, args);
  if (name == "partition" || name == "rpartition") return partition(text, args, name == "rpartition");
  if (name == "ljust" || name == "rjust" || name == "center") return padded(name, text, args);
  if (name == "zfill") {
    int64_t width = as_integer(bind_args("zfill", args, {"width"}, 1)[0]);
    bool sign = !text.empty() && (text[0] == '-' || text[0] == '+');
    return string((sign ? text.substr(0, 1) : "") + pad(text.substr(sign), width - sign, "0", '>'));
  }
  if (name == "removeprefix" || name == "removesuffix") {
    const std::string part = need_string(bind_args(name.c_str(), args, {"affix"}, 1)[0], "argument");
    if (name == "removeprefix") return string(text.starts_with(part) ? text.substr(part.size()) : text);
    return string(text.ends_with(part) ? text.substr(0, text.size() - part.size()) : text);
  }
  if (name == "splitlines") {
    auto a = bind_args("splitlines", args, {"keepends"});
    return string_list(split_lines(text, truthy(a[0])));
  }
  if (name == "expandtabs") {
    auto a = bind_args("expandtabs", args, {"tabsize"});
    return string(expand_tabs(text, given(a[0]) ? as_integer(a[0]) : 8));
  }
  if (name == "encode" || name == "translate" || name == "maketrans" || name == "format_map")
    fail("TypeError", "str." + name + " is not supported in chat templates");
  bind_args(name.c_str(), args, {});
  if (name == "upper") return string(upper(text));
  if (name == "lower") return string(lower(text));
  if (name == "casefold") return string(casefold(text));
  if (name == "capitalize") return string(capitalize(text));
  if (name == "title") return string(title(text));
  if (name == "swapcase") return string(swapcase(text));
  return boolean(is_class(text, name));
}

Value view_of(const DictObject& d, const std::string& name) {
  std::vector<Value> items;
  items.reserve(d.entries.size());
  charge(static_cast<int64_t>(d.entries.size()));
  for (const auto& [key, value] : d.entries)
    items.push_back(name == "keys" ? key : name == "values" ? value : list({key, value}, Type::Tuple));
  Value v = list(std::move(items), Type::View);
  static_cast<SequenceObject&>(*v.o).view = name == "keys" ? "dict_keys" : name == "values" ? "dict_values" : "dict_items";
  return v;
}
// Those of Markup: what comes into the text is escaped, what comes out of it is marked.
Value markup_method(const std::string& text, const std::string& name, Args& args) {
  const bool pads = name == "ljust" || name == "rjust" || name == "center";
  if ((name == "replace" || pads) && args.positional.size() > 1 && args.positional[1].is_string())
    args.positional[1] = string(escaped(args.positional[1]), true);
  if (name == "join" && args.positional.size() == 1) {
    std::vector<Value> items;
    for (const Value& item : iterate(args.positional[0])) items.push_back(string(escaped(item), true));
    args.positional[0] = list(std::move(items));
  }
  return marked(string_method(text, name, args));
}
}  // namespace

Value call_method(const Value& self, const std::string& name, Args& args) {
  if (self.is_string()) return is_safe(self) ? markup_method(self.text(), name, args) : string_method(self.text(), name, args);
  if (self.type == Type::Float) return boolean(std::isfinite(self.d) && self.d == std::floor(self.d));
  if (self.type == Type::Dict) {
    const DictObject& d = as_dict(self);
    if (name == "get") {
      auto a = bind_args("get", args, {"key", "default"}, 1);
      if (a[0].type == Type::List || a[0].type == Type::Dict) fail("TypeError", "unhashable type: '" + type_name(a[0]) + "'");
      const Value* found = d.find(a[0]);
      return found ? *found : args.positional.size() > 1 ? a[1] : given(a[1]) ? a[1] : none();
    }
    bind_args(name.c_str(), args, {});
    if (name == "copy") return dict(d.entries);
    return view_of(d, name);
  }
  if (name == "copy") return list(self.items());
  auto a = bind_args(name.c_str(), args, {"value", "start", "stop"}, 1);
  int64_t n = 0;
  const auto& items = self.items();
  for (size_t k = 0; k < items.size(); ++k) {
    if (!equal(items[k], a[0])) continue;
    if (name == "index") {
      if (!given(a[1]) || static_cast<int64_t>(k) >= as_integer(a[1])) return integer(static_cast<int64_t>(k));
    }
    ++n;
  }
  if (name == "index")
    fail("ValueError", self.type == Type::Tuple ? "tuple.index(x): x not in tuple" : repr(a[0]) + " is not in " + type_name(self));
  return integer(n);
}

}  // namespace loraine::jinja
