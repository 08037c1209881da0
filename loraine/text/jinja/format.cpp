// Text formatting of the Jinja engine: "%" formats, str.format, strftime, and the global functions templates see.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "loraine/text/jinja/builtins.h"
#include "loraine/text/jinja/eval.h"
#include "loraine/text/jinja/markup.h"
#include "loraine/text/jinja/objects.h"
#include "loraine/text/jinja/text.h"

namespace loraine::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;

struct Spec {
  std::string fill = " ";
  char align = '\0', sign = '-', type = '\0';
  bool alternate = false, comma = false, underscore = false;
  int64_t width = 0, precision = -1;
};

int64_t parse_number(std::string_view text, size_t& at) {
  int64_t x = 0;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
    x = x * 10 + (text[at++] - '0');
    if (x > kMaxWidth) fail("ValueError", "Too many decimal digits in format string");
  }
  return x;
}

std::string group_digits(const std::string& digits, char separator) {
  std::string out;
  size_t whole = digits.find_first_not_of("0123456789");
  if (whole == std::string::npos) whole = digits.size();
  for (size_t k = 0; k < whole; ++k) {
    if (k && (whole - k) % 3 == 0) out += separator;
    out += digits[k];
  }
  return out + digits.substr(whole);
}

std::string printf_double(double x, char type, int64_t precision, bool alternate) {
  if (std::isnan(x) || std::isinf(x)) {
    std::string text = std::isnan(x) ? "nan" : "inf";
    return type == 'F' || type == 'E' || type == 'G' ? upper(text) : text;
  }
  charge(precision / 2);
  std::string format = fmt::format("%{}.{}{}", alternate ? "#" : "", precision, type);
  int n = std::snprintf(nullptr, 0, format.c_str(), x);
  std::string out(static_cast<size_t>(n) + 1, '\0');
  std::snprintf(out.data(), out.size(), format.c_str(), x);
  out.pop_back();
  return out;
}

// Sign, digits and padding put together; `body` has no sign.
std::string assemble(const Spec& spec, bool negative, const std::string& prefix, std::string body) {
  if (spec.comma || spec.underscore) body = group_digits(body, spec.comma ? ',' : '_');
  std::string sign = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  if (spec.align == '=') return sign + prefix + pad(body, spec.width - static_cast<int64_t>(sign.size() + prefix.size()), spec.fill, '>');
  return pad(sign + prefix + body, spec.width, spec.fill, spec.align ? spec.align : '>');
}

std::string format_integer(const Spec& spec, const BigInteger& x) {
  std::string prefix;
  if (spec.alternate && (spec.type == 'x' || spec.type == 'X' || spec.type == 'o' || spec.type == 'b'))
    prefix = std::string("0") + spec.type;
  int base = spec.type == 'x' || spec.type == 'X' ? 16 : spec.type == 'o' ? 8 : spec.type == 'b' ? 2 : 10;
  return assemble(spec, x.negative(), prefix, x.digits(base, spec.type == 'X'));
}

std::string format_double(const Spec& spec, double x) {
  bool negative = std::signbit(x) && !std::isnan(x);
  double magnitude = std::fabs(x);
  std::string body;
  if (spec.type == '%') body = printf_double(magnitude * 100, 'f', spec.precision < 0 ? 6 : spec.precision, false) + "%";
  else if (spec.type == '\0') {
    if (spec.precision < 0) body = float_repr(magnitude);
    else {
      body = printf_double(magnitude, 'g', std::max<int64_t>(spec.precision, 1), false);
      if (body.find_first_not_of("0123456789") == std::string::npos) body += ".0";
    }
  } else {
    char type = spec.type == 'n' ? 'g' : spec.type;
    int64_t precision = spec.precision < 0 ? 6 : spec.precision;
    body = printf_double(magnitude, type, precision, spec.alternate);
  }
  return assemble(spec, negative, "", body);
}

std::string truncated(const std::string& text, int64_t n) {
  if (n < 0 || n >= count_code_points(text)) return text;
  return slice(string(text), none(), integer(n), none()).text();
}

Spec parse_spec(const std::string& text) {
  Spec spec;
  auto characters = split_code_points(text);
  auto is_align = [](std::string_view s) { return s == "<" || s == ">" || s == "^" || s == "="; };
  size_t at = 0;
  if (characters.size() > 1 && is_align(characters[1])) {
    spec.fill = std::string(characters[0]);
    spec.align = characters[1][0];
    at = characters[0].size() + 1;
  } else if (!characters.empty() && is_align(characters[0])) {
    spec.align = characters[0][0];
    at = 1;
  }
  auto has = [&](char c) { return at < text.size() && text[at] == c; };
  if (has('+') || has('-') || has(' ')) spec.sign = text[at++];
  if (has('#')) spec.alternate = true, ++at;
  if (has('0')) {
    if (!spec.align) spec.align = '=', spec.fill = "0";
    ++at;
  }
  spec.width = parse_number(text, at);
  if (has(',')) spec.comma = true, ++at;
  if (has('_')) spec.underscore = true, ++at;
  if (has('.')) {
    size_t begin = ++at;
    spec.precision = parse_number(text, at);
    if (at == begin) fail("ValueError", "Format specifier missing precision");
  }
  if (at < text.size()) spec.type = text[at++];
  if (at < text.size()) fail("ValueError", "Invalid format specifier '" + text + "'");
  return spec;
}

std::string format_value(const Value& value, const std::string& spec_text) {
  if (spec_text.empty()) return to_text(value);
  Spec spec = parse_spec(spec_text);
  auto unknown = [&] { fail("ValueError", fmt::format("Unknown format code '{}' for object of type '{}'", spec.type, type_name(value))); };
  if (value.is_string()) {
    if (spec.type && spec.type != 's') unknown();
    if (spec.align == '=') {
      if (spec.fill != "0") fail("ValueError", "'=' alignment not allowed in string format specifier");
      spec.align = '<';
    }
    return pad(truncated(value.text(), spec.precision), spec.width, spec.fill, spec.align ? spec.align : '<');
  }
  if (!value.is_number()) fail("TypeError", "unsupported format string passed to " + type_name(value) + ".__format__");
  if (value.type == Type::Bool && !spec.type) return pad(value.b ? "True" : "False", spec.width, spec.fill, spec.align ? spec.align : '<');
  bool float_type = spec.type && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  if (value.type == Type::Float || float_type) {
    if (spec.type && !float_type && spec.type != 'n') unknown();
    return format_double(spec, value.number());
  }
  if (spec.type == 'c') {
    std::string out;
    if (value.integer() < 0 || value.integer() > 0x10ffff) fail("OverflowError", "%c arg not in range(0x110000)");
    append_utf8(out, static_cast<char32_t>(value.integer()));
    return pad(out, spec.width, spec.fill, spec.align ? spec.align : '<');
  }
  if (spec.type && std::string_view("dnxXob").find(spec.type) == std::string_view::npos) unknown();
  if (spec.precision >= 0) fail("ValueError", "Precision not allowed in integer format specifier");
  return format_integer(spec, big_integer(value));
}

struct BraceFormatter {
  Engine* engine;
  const Args& args;
  bool safe;  // the format is Markup: what is put in is escaped
  int64_t next = 0;
  int mode = 0;  // 1: automatic numbering, 2: manual

  const Value& positional(int64_t k) {
    if (k < 0 || k >= static_cast<int64_t>(args.positional.size()))
      fail("IndexError", fmt::format("Replacement index {} out of range for positional args tuple", k));
    return args.positional[static_cast<size_t>(k)];
  }
  void set_mode(int m) {
    if (mode && mode != m)
      fail("ValueError", m == 1 ? "cannot switch from manual field specification to automatic field numbering"
                                : "cannot switch from automatic field numbering to manual field specification");
    mode = m;
  }
  Value field(const std::string& name) {
    size_t end = name.find_first_of(".[");
    std::string first = name.substr(0, end);
    Value value;
    if (first.empty()) {
      set_mode(1);
      value = positional(next++);
    } else if (first.find_first_not_of("0123456789") == std::string::npos) {
      set_mode(2);
      size_t at = 0;
      value = positional(parse_number(first, at));
    } else {
      auto it = std::find_if(args.named.begin(), args.named.end(), [&](const auto& x) { return x.first == first; });
      if (it == args.named.end()) fail("KeyError", "'" + first + "'");
      value = it->second;
    }
    for (size_t at = end; at < name.size();) {
      if (name[at] == '.') {
        size_t stop = name.find_first_of(".[", at + 1);
        std::string key = name.substr(at + 1, stop == std::string::npos ? stop : stop - at - 1);
        if (engine == nullptr) fail("TypeError", "attributes are not supported here");
        value = get_attribute(*engine, value, key);
        at = stop == std::string::npos ? name.size() : stop;
      } else {
        size_t stop = name.find(']', at);
        if (stop == std::string::npos) fail("ValueError", "Missing ']' in format string");
        std::string key = name.substr(at + 1, stop - at - 1);
        size_t k = 0;
        bool number = !key.empty() && key.find_first_not_of("0123456789") == std::string::npos;
        value = get_item(engine, value, number ? integer(parse_number(key, k)) : string(key));
        at = stop + 1;
      }
    }
    return value;
  }
  std::string run(const std::string& format, int depth) {
    charge(static_cast<int64_t>(format.size() / 16));
    if (depth > 2) fail("ValueError", "Max string recursion exceeded");
    std::string out;
    for (size_t k = 0; k < format.size(); ++k) {
      char c = format[k];
      bool twice = k + 1 < format.size() && format[k + 1] == c;
      if ((c == '{' || c == '}') && twice) {
        out += c;
        ++k;
      } else if (c == '}') {
        fail("ValueError", "Single '}' encountered in format string");
      } else if (c == '{') {
        size_t end = k + 1;
        int open = 1;
        for (; end < format.size(); ++end) {
          open += format[end] == '{';
          open -= format[end] == '}';
          if (open == 0) break;
        }
        if (end >= format.size())
          fail("ValueError", k + 1 == format.size() ? "Single '{' encountered in format string" : "expected '}' before end of string");
        append(out, replacement(format.substr(k + 1, end - k - 1), depth));
        k = end;
      } else {
        out += c;
      }
    }
    return out;
  }
  std::string replacement(const std::string& body, int depth) {
    charge(20);
    size_t end = 0;
    for (int bracket = 0; end < body.size(); ++end) {
      bracket += body[end] == '[';
      bracket -= body[end] == ']';
      if (bracket == 0 && (body[end] == '!' || body[end] == ':')) break;
    }
    Value value = field(body.substr(0, end));
    if (end < body.size() && body[end] == '!') {
      char conversion = end + 1 < body.size() ? body[end + 1] : '\0';
      if (conversion != 'r' && conversion != 's' && conversion != 'a') fail("ValueError", "Unknown conversion specifier");
      value = string(conversion == 's' ? to_text(value) : repr(value));
      end += 2;
      if (end < body.size() && body[end] != ':') fail("ValueError", "expected ':' after conversion specifier");
    }
    std::string spec = end < body.size() ? body.substr(end + 1) : "";
    if (spec.find('{') != std::string::npos) spec = run(spec, depth + 1);
    if (!safe) return format_value(value, spec);
    if (is_safe(value) && !spec.empty()) fail("ValueError", "Unsupported format specification for Markup.");
    return is_safe(value) ? value.text() : escape(format_value(value, spec));
  }
};

}  // namespace

Value brace_format(Engine* engine, const Value& format, const Args& args) {
  BraceFormatter formatter{engine, args, is_safe(format)};
  return string(formatter.run(format.text(), 1), formatter.safe);
}

namespace {
// `safe`: the format is Markup, which gives texts escaped and nothing that is taken for a letter or a whole number in itself.
std::string percent_one(char type, Spec spec, const Value& value, bool left, bool safe) {
  if (type == 's' || type == 'r' || type == 'a') {
    const Value text = type == 's' ? value : string(repr(value));
    return pad(truncated(safe ? escaped(text) : to_text(text), spec.precision), spec.width, " ", left ? '<' : '>');
  }
  if (safe && std::string_view("cxXo").find(type) != std::string_view::npos)
    fail("TypeError", fmt::format("%{} format: not possible in a text that is marked as safe", type));
  if (type == 'c') {
    std::string c = value.is_string() ? value.text() : "";
    if (!value.is_string()) append_utf8(c, static_cast<char32_t>(std::clamp<int64_t>(as_integer(value), 0, 0x10ffff)));
    return pad(c, spec.width, " ", left ? '<' : '>');
  }
  if (left) spec.align = '<', spec.fill = " ";
  spec.type = type == 'i' || type == 'u' ? 'd' : type;
  bool whole = std::string_view("diuxXo").find(type) != std::string_view::npos;
  charge(20);
  if (value.undefined()) fail_undefined(value);
  if (!value.is_number())
    fail("TypeError", whole ? fmt::format("%{} format: a real number is required, not {}", type, type_name(value))
                            : "must be real number, not " + type_name(value));
  if (!whole) return format_double(spec, value.number());
  if (value.type == Type::Float) {
    if (type == 'x' || type == 'X' || type == 'o') fail("TypeError", fmt::format("%{} format: an integer is required, not float", type));
    if (!std::isfinite(value.d)) fail(std::isnan(value.d) ? "ValueError" : "OverflowError", "cannot convert this float to an integer");
    return format_integer(spec, BigInteger::from_double(value.d));
  }
  return format_integer(spec, big_integer(value));
}
}  // namespace

namespace {
// One "%" format and its arguments: what stands in brackets, flags, sizes and the conversion, read from left to right.
struct PercentFormatter {
  const std::string& format;
  const Value& arguments;
  bool safe = false;
  std::vector<Value> items = arguments.type == Type::Tuple ? arguments.items() : std::vector<Value>{arguments};
  size_t at = 0, next = 0;  // in format, in items
  bool used_mapping = false;

  bool has_mapping() const { return arguments.type == Type::Dict; }
  bool is(char c) const { return at < format.size() && format[at] == c; }
  const Value& take() {
    if (next >= items.size()) fail("TypeError", "not enough arguments for format string");
    return items[next++];
  }
  std::optional<Value> keyed() {  // "(name)"
    if (!is('(')) return std::nullopt;
    size_t end = format.find(')', at);
    if (end == std::string::npos) fail("ValueError", "incomplete format key");
    if (!has_mapping()) fail("TypeError", "format requires a mapping");
    std::string key = format.substr(at + 1, end - at - 1);
    const Value* found = as_dict(arguments).find(key);
    if (!found) fail("KeyError", "'" + key + "'");
    used_mapping = true;
    at = end + 1;
    return *found;
  }
  bool flags(Spec& spec) {  // returns whether "-" is among them
    bool left = false;
    for (; at < format.size(); ++at) {
      char c = format[at];
      if (c == '-') left = true;
      else if (c == '+' || (c == ' ' && spec.sign != '+')) spec.sign = c;
      else if (c == '#') spec.alternate = true;
      else if (c == '0') spec.align = '=', spec.fill = "0";
      else if (c != ' ') break;
    }
    return left;
  }
  int64_t size() {
    if (!is('*')) return parse_number(format, at);
    ++at;
    int64_t given_size = as_integer(take());
    if (given_size > kMaxWidth) fail("ValueError", "width or precision too big");
    return std::max<int64_t>(given_size, 0);
  }
  std::string conversion() {  // behind a "%"; leaves `at` on the letter
    std::optional<Value> value = keyed();
    Spec spec;
    bool left = flags(spec);
    spec.width = size();
    if (is('.')) {
      ++at;
      spec.precision = size();
    }
    while (is('l') || is('h') || is('L')) ++at;
    if (at >= format.size()) fail("ValueError", "incomplete format");
    char type = format[at];
    if (type == '%') return "%";
    if (std::string_view("diuxXoeEfFgGcrsa").find(type) == std::string_view::npos)
      fail("ValueError", fmt::format("unsupported format character '{}' ({:#x}) at index {}", type, static_cast<unsigned char>(type), at));
    return percent_one(type, spec, value ? *value : take(), left, safe);
  }
};
}  // namespace

Value percent_format(const Value& text, const Value& arguments) {
  const std::string& format = text.text();
  PercentFormatter formatter{format, arguments, is_safe(text)};
  std::string out;
  for (size_t& at = formatter.at; at < format.size(); ++at) {
    if (format[at] != '%') {
      out += format[at];
      continue;
    }
    ++at;
    append(out, formatter.conversion());
  }
  bool subscriptable = arguments.type == Type::List || arguments.type == Type::Range || arguments.undefined();  // a mapping to Python
  if (!formatter.used_mapping && !formatter.has_mapping() && !subscriptable && formatter.next < formatter.items.size())
    fail("TypeError", "not all arguments converted during string formatting");
  return string(std::move(out), formatter.safe);
}

std::string strftime(const std::string& format, const std::tm& time) {
  charge(1000);
  if (format.size() > 4096) fail("ValueError", "strftime format is longer than 4096 bytes");
  std::string out(format.size() * 64 + 64, '\0');
  std::string guarded = format + "|";  // so that an empty result differs from a failure
  size_t n = std::strftime(out.data(), out.size(), guarded.c_str(), &time);
  if (n == 0) fail("ValueError", "strftime format gives too long a text");
  out.resize(n - 1);
  return out;
}

// ---- global functions

namespace {
struct Function : CallableObject {
  Value (*body)(Engine&, Args&);
  bool is_class = false;
  Value (*fromkeys)(Engine&, Args&) = nullptr;  // dict's
  Value call(Engine& engine, Args& args) override { return body(engine, args); }
  std::string class_name() const override { return is_class ? "type" : "function"; }
  std::optional<Value> attribute(Engine&, const std::string& name) override;
};

struct Cycler : CallableObject {
  std::vector<Value> items;
  size_t at = 0;
  Value call(Engine&, Args&) override { fail("TypeError", "'Cycler' object is not callable"); }
  bool callable() const override { return false; }
  std::string class_name() const override { return "Cycler"; }
  std::optional<Value> attribute(Engine&, const std::string& name) override;
};
struct Joiner : CallableObject {
  std::string separator;
  bool used = false;
  std::string class_name() const override { return "Joiner"; }
  Value call(Engine&, Args&) override { return string(std::exchange(used, true) ? separator : ""); }
};

std::optional<Value> Cycler::attribute(Engine&, const std::string& name) {
  if (name == "current") return items[at];
  return std::nullopt;
}

Value f_range(Engine&, Args& args) {
  if (!args.named.empty()) fail("TypeError", "range() takes no keyword arguments");
  if (args.positional.empty() || args.positional.size() > 3)
    fail("TypeError", fmt::format("range expected 1 to 3 arguments, got {}", args.positional.size()));
  int64_t begin = 0, end, step = 1;
  end = as_integer(args.positional[0]);
  if (args.positional.size() > 1) begin = end, end = as_integer(args.positional[1]);
  if (args.positional.size() > 2) step = as_integer(args.positional[2]);
  if (step == 0) fail("ValueError", "range() arg 3 must not be zero");
  return make_range(begin, end, step);
}

Value make_dict(Engine&, Args& args) {
  std::vector<std::pair<Value, Value>> entries;
  if (args.positional.size() > 1) fail("TypeError", fmt::format("dict expected at most 1 argument, got {}", args.positional.size()));
  for (const Value& given : args.positional) {
    if (given.type == Type::Dict) entries = as_dict(given).entries;
    else
      for (const Value& entry : iterate(given)) {
        auto two = iterate(entry);
        if (two.size() != 2) fail("ValueError", fmt::format("dictionary update sequence element has length {}; 2 is required", two.size()));
        entries.emplace_back(two[0], two[1]);
      }
  }
  for (auto& [name, value] : args.named) entries.emplace_back(string(name), value);
  return dict(std::move(entries));
}

Value dict_from_keys(Engine&, Args& args) {
  if (!args.named.empty()) fail("TypeError", "dict.fromkeys() takes no keyword arguments");
  auto a = bind_args("fromkeys", args, {"iterable", "value"}, 1);
  std::vector<std::pair<Value, Value>> entries;
  for (Value& key : iterate(a[0])) entries.emplace_back(std::move(key), given(a[1]) || args.positional.size() > 1 ? a[1] : none());
  return dict(std::move(entries));
}

std::optional<Value> Function::attribute(Engine&, const std::string& name) {
  if (name != "fromkeys" || !fromkeys) return std::nullopt;
  auto method = std::make_shared<Function>();
  method->body = fromkeys;
  return object_value(method);
}

Value make_cycler(Engine&, Args& args) {
  if (args.positional.empty()) fail("RuntimeError", "at least one item has to be provided");
  auto cycler = std::make_shared<Cycler>();
  cycler->items = args.positional;
  for (const Value& item : cycler->items)
    if (item.o) cycler->depth = std::max(cycler->depth, item.o->depth + 1);
  if (cycler->depth > kMaxValueDepth) fail("RecursionError", "values nested too deep");
  return object_value(cycler);
}

Value make_joiner(Engine&, Args& args) {
  auto joiner = std::make_shared<Joiner>();
  auto a = bind_args("joiner", args, {"sep"});
  joiner->separator = given(a[0]) ? to_text(a[0]) : ", ";
  return object_value(joiner);
}

Value raise_exception(Engine&, Args& args) {
  auto a = bind_args("raise_exception", args, {"message"}, 1);
  throw JinjaError("TemplateError", to_text(a[0]));
}

Value strftime_now(Engine& engine, Args& args) {
  auto a = bind_args("strftime_now", args, {"format"}, 1);
  if (!a[0].is_string()) fail("TypeError", "strftime() argument 1 must be str, not " + type_name(a[0]));
  return string(strftime(a[0].text(), engine.now()));
}

Value make_namespace(Engine& engine, Args& args) { return engine.make_namespace(args); }
Value not_callable(Engine&, Args&) { fail("TypeError", "'TemplateReference' object is not callable"); }
}  // namespace

Value make_range(int64_t begin, int64_t end, int64_t step) {
  __int128 span = step > 0 ? static_cast<__int128>(end) - begin : static_cast<__int128>(begin) - end;
  __int128 stride = step > 0 ? static_cast<__int128>(step) : -static_cast<__int128>(step);
  __int128 count = span <= 0 ? 0 : (span + stride - 1) / stride;
  if (count > 100000) fail("OverflowError", "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  std::vector<Value> items;
  for (int64_t k = 0; k < static_cast<int64_t>(count); ++k) items.push_back(integer(begin + k * step));
  charge(static_cast<int64_t>(count / 4));
  Value v = list(std::move(items), Type::Range);
  auto& r = static_cast<SequenceObject&>(*v.o).range;
  r[0] = begin, r[1] = end, r[2] = step;
  return v;
}

// {{ c.next() }} and {{ c.reset() }} act on the cycler itself.
bool cycler_method(const Value& self, const std::string& name, Value& result) {
  auto* cycler = dynamic_cast<Cycler*>(self.o.get());
  if (!cycler) return false;
  if (name == "next") {
    result = cycler->items[cycler->at];
    cycler->at = (cycler->at + 1) % cycler->items.size();
    return true;
  }
  if (name != "reset") return false;
  cycler->at = 0;
  result = none();
  return true;
}

std::optional<Value> global(const std::string& name) {
  struct Entry {
    Value (*body)(Engine&, Args&);
    bool is_class;
  };
  static const std::map<std::string, Entry> kGlobals = {{"range", {f_range, true}},
                                                        {"dict", {make_dict, true}},
                                                        {"cycler", {make_cycler, true}},
                                                        {"joiner", {make_joiner, true}},
                                                        {"namespace", {make_namespace, true}},
                                                        {"raise_exception", {raise_exception, false}},
                                                        {"strftime_now", {strftime_now, false}},
                                                        {"self", {not_callable, false}}};
  auto it = kGlobals.find(name);
  if (it == kGlobals.end()) return std::nullopt;
  auto function = std::make_shared<Function>();
  function->body = it->second.body;
  function->is_class = it->second.is_class;
  if (name == "dict") function->fromkeys = dict_from_keys;
  return object_value(function);
}

}  // namespace loraine::jinja
