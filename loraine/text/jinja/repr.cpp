// Values as text: repr, str, JSON and floats, as Python writes them. Called by the evaluator and the filters of the Jinja engine.
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "loraine/text/jinja/text.h"
#include "loraine/text/jinja/value.h"

namespace loraine::jinja {

std::string float_repr(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x < 0 ? "-inf" : "inf";
  char digits[40];
  auto end = std::to_chars(digits, digits + sizeof digits, x, std::chars_format::scientific).ptr;
  std::string text(digits, end);
  size_t e = text.find('e');
  int exponent = std::stoi(text.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return fmt::format("{}e{}{:02d}", text.substr(0, e), exponent < 0 ? '-' : '+', std::abs(exponent));
  char fixed[400];
  end = std::to_chars(fixed, fixed + sizeof fixed, x, std::chars_format::fixed).ptr;
  std::string out(fixed, end);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

bool printable(char32_t c) {
  if (c == ' ') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
  }
}

namespace {

std::string hex_escape(const char* begin, char32_t c, int digits) {
  std::string out = begin;
  for (int k = digits - 1; k >= 0; --k) out += "0123456789abcdef"[c >> (4 * k) & 15];
  return out;
}

// Room for `more` bytes: the limit is asked before the text grows.
void reserve_text(const std::string& out, size_t more) {
  if (more > 1024) charge_bytes(static_cast<int64_t>(out.size() + more));
}

void repr_string(const std::string& text, std::string& out) {
  reserve_text(out, text.size());
  char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  out += quote;
  for (std::string_view s : CodePoints(text)) {
    char32_t c = decode(s);
    if (c == static_cast<char32_t>(quote) || c == '\\') (out += '\\') += s;
    else if (c == '\n') out += "\\n";
    else if (c == '\r') out += "\\r";
    else if (c == '\t') out += "\\t";
    else if (printable(c)) out += s;
    else if (c < 0x100) out += hex_escape("\\x", c, 2);
    else if (c < 0x10000) out += hex_escape("\\u", c, 4);
    else out += hex_escape("\\U", c, 8);
  }
  out += quote;
}

void repr_to(const Value& value, std::string& out, int depth);

void repr_items(const std::vector<Value>& items, std::string& out, int depth) {
  for (size_t k = 0; k < items.size(); ++k) {
    if (k) out += ", ";
    repr_to(items[k], out, depth);
  }
}

void repr_dict(const DictObject& d, std::string& out, int depth) {
  out += '{';
  for (size_t k = 0; k < d.entries.size(); ++k) {
    if (k) out += ", ";
    repr_to(d.entries[k].first, out, depth);
    out += ": ";
    repr_to(d.entries[k].second, out, depth);
  }
  out += '}';
}

void repr_to(const Value& value, std::string& out, int depth) {
  charge(1);
  if (depth > kMaxValueDepth) fail("RecursionError", "maximum recursion depth exceeded while getting the repr of an object");
  append(out, "");
  switch (value.type) {
    case Type::Undefined: out += "Undefined"; break;
    case Type::None: out += "None"; break;
    case Type::Bool: out += value.b ? "True" : "False"; break;
    case Type::Int: append(out, integer_text(value)); break;
    case Type::Float: out += float_repr(value.d); break;
    case Type::String: {
      bool safe = static_cast<const StringObject&>(*value.o).safe;
      if (safe) out += "Markup(";
      repr_string(value.text(), out);
      if (safe) out += ')';
      break;
    }
    case Type::List:
      out += '[';
      repr_items(value.items(), out, depth + 1);
      out += ']';
      break;
    case Type::Tuple:
      out += '(';
      repr_items(value.items(), out, depth + 1);
      out += value.items().size() == 1 ? ",)" : ")";
      break;
    case Type::View:
      (out += static_cast<const SequenceObject&>(*value.o).view) += "([";
      repr_items(value.items(), out, depth + 1);
      out += "])";
      break;
    case Type::Range: {
      const auto& r = static_cast<const SequenceObject&>(*value.o).range;
      out += r[2] == 1 ? fmt::format("range({}, {})", r[0], r[1]) : fmt::format("range({}, {}, {})", r[0], r[1], r[2]);
      break;
    }
    case Type::Dict: repr_dict(as_dict(value), out, depth + 1); break;
    case Type::Namespace:
      out += "<Namespace ";
      repr_dict(as_dict(value), out, depth + 1);
      out += '>';
      break;
    default: out += "<" + type_name(value) + " object>";
  }
}

void json_string(const std::string& text, bool ascii, std::string& out) {
  reserve_text(out, text.size());
  out += '"';
  for (std::string_view s : CodePoints(text)) {
    char32_t c = decode(s);
    if (c == '"') out += "\\\"";
    else if (c == '\\') out += "\\\\";
    else if (c == '\n') out += "\\n";
    else if (c == '\r') out += "\\r";
    else if (c == '\t') out += "\\t";
    else if (c == '\b') out += "\\b";
    else if (c == '\f') out += "\\f";
    else if (c < 0x20) out += hex_escape("\\u", c, 4);
    else if (!ascii || c < 0x7f + 1) out += s;
    else if (c < 0x10000) out += hex_escape("\\u", c, 4);
    else
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((static_cast<uint32_t>(c) - 0x10000) >> 10),
                         0xdc00 + ((static_cast<uint32_t>(c) - 0x10000) & 0x3ff));
  }
  out += '"';
}

std::string json_number(double x) {
  if (std::isnan(x)) return "NaN";
  if (std::isinf(x)) return x < 0 ? "-Infinity" : "Infinity";
  return float_repr(x);
}

std::string json_key(const Value& key) {
  switch (key.type) {
    case Type::String: return key.text();
    case Type::None: return "null";
    case Type::Bool: return key.b ? "true" : "false";
    case Type::Int: return integer_text(key);
    case Type::Float: return json_number(key.d);
    default: fail("TypeError", "keys must be str, int, float, bool or None, not " + type_name(key));
  }
}

void json_newline(const JsonOptions& options, int depth, std::string& out) {
  if (!options.indent) return;
  out += '\n';
  for (int k = 0; k < depth; ++k) append(out, *options.indent);
}

void json_to(const Value& value, const JsonOptions& options, int depth, std::string& out) {
  charge(1);
  append(out, "");
  switch (value.type) {
    case Type::None: out += "null"; break;
    case Type::Bool: out += value.b ? "true" : "false"; break;
    case Type::Int: append(out, integer_text(value)); break;
    case Type::Float: out += json_number(value.d); break;
    case Type::String: json_string(value.text(), options.ensure_ascii, out); break;
    case Type::List:
    case Type::Tuple: {
      const auto& items = value.items();
      out += '[';
      for (size_t k = 0; k < items.size(); ++k) {
        if (k) append(out, options.item_separator);
        json_newline(options, depth + 1, out);
        json_to(items[k], options, depth + 1, out);
      }
      if (!items.empty()) json_newline(options, depth, out);
      out += ']';
      break;
    }
    case Type::Dict: {
      const auto& entries = as_dict(value).entries;
      std::vector<size_t> order(entries.size());
      std::iota(order.begin(), order.end(), size_t{0});
      if (options.sort_keys)
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return less(entries[a].first, entries[b].first, "<"); });
      out += '{';
      for (size_t k = 0; k < entries.size(); ++k) {
        if (k) append(out, options.item_separator);
        json_newline(options, depth + 1, out);
        json_string(json_key(entries[order[k]].first), options.ensure_ascii, out);
        append(out, options.key_separator);
        json_to(entries[order[k]].second, options, depth + 1, out);
      }
      if (!entries.empty()) json_newline(options, depth, out);
      out += '}';
      break;
    }
    default: fail("TypeError", "Object of type " + type_name(value) + " is not JSON serializable");
  }
}
}  // namespace

std::string to_text(const Value& value) {
  if (value.undefined()) return "";
  if (value.is_string()) return value.text();
  return repr(value);
}

std::string repr(const Value& value) {
  std::string out;
  repr_to(value, out, 0);
  return out;
}

std::string to_json(const Value& value, const JsonOptions& options) {
  std::string out;
  json_to(value, options, 0, out);
  return out;
}

}  // namespace loraine::jinja
