// A reader of the few forms of Python that calls consist of. See python_call.h.
#include "loraine/text/calls/python_call.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "loraine/core/python_json.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr int kMaxDepth = 64;

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
  } else if (code < 0x10000) {
    out += {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)), static_cast<char>(0x80 | (code & 0x3f))};
  } else {
    out += {static_cast<char>(0xf0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 0x3f)),
            static_cast<char>(0x80 | (code >> 6 & 0x3f)), static_cast<char>(0x80 | (code & 0x3f))};
  }
}

// Every function is false where the text goes on in another way than it reads.
struct Reader {
  std::string_view text;
  size_t at = 0;

  void space() {
    while (at < text.size() && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r')) ++at;
  }
  bool take(char c) {
    space();
    const bool is = at < text.size() && text[at] == c;
    at += is;
    return is;
  }
  char peek() {
    space();
    return at < text.size() ? text[at] : '\0';
  }

  bool name(std::string& out) {
    space();
    const size_t from = at;
    const auto letter = [](unsigned char c) { return std::isalpha(c) || c == '_' || c >= 0x80; };
    while (at < text.size() && (letter(static_cast<unsigned char>(text[at])) || (at > from && text[at] >= '0' && text[at] <= '9'))) ++at;
    out = text.substr(from, at - from);
    return at > from;
  }

  bool escape(std::string& out) {
    constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
    if (at >= text.size()) return false;
    const char c = text[at++];
    if (c == '\n') return true;  // the line goes on
    if (const size_t known = kFrom.find(c); known != std::string_view::npos) {
      out += kTo[known];
      return true;
    }
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    int base = 16;
    if (c >= '0' && c <= '7') {
      base = 8;
      --at;
      for (digits = 1; digits < 3 && at + digits < text.size() && text[at + digits] >= '0' && text[at + digits] <= '7'; ++digits) {}
    } else if (digits == 0) {
      out += {'\\', c};  // no escape: both letters stay
      return c != 'N';
    }
    uint32_t code = 0;
    if (at + digits > text.size()) return false;
    const auto [end, failed] = std::from_chars(text.data() + at, text.data() + at + digits, code, base);
    if (failed != std::errc() || end != text.data() + at + digits || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    at += digits;
    append_utf8(out, code);
    return true;
  }

  bool quoted(std::string& out) {
    const char quote = text[at];
    const std::string three(3, quote);
    const bool lines = text.substr(at, 3) == three;
    at += lines ? 3 : 1;
    while (at < text.size()) {
      if (lines ? text.substr(at, 3) == three : text[at] == quote) {
        at += lines ? 3 : 1;
        return true;
      }
      if (text[at] == '\n' && !lines) return false;
      const char c = text[at++];
      if (c == '\\') {
        if (!escape(out)) return false;
      } else {
        out += c;
      }
    }
    return false;
  }

  bool number(OrderedJson& value) {
    const size_t from = at;
    const bool minus = text[at] == '-';
    if (minus || text[at] == '+') ++at;
    space();
    std::string digits;
    while (at < text.size() &&
           (std::isdigit(static_cast<unsigned char>(text[at])) || text[at] == '.' || text[at] == 'e' || text[at] == 'E' ||
            text[at] == '_' || ((text[at] == '-' || text[at] == '+') && (text[at - 1] == 'e' || text[at - 1] == 'E'))))
      if (text[at++] != '_') digits += text[at - 1];
    const bool whole = digits.find_first_of(".eE") == std::string::npos;
    const char *begin = digits.data(), *end = begin + digits.size();
    if (digits.empty() || at == from || (whole && digits.size() > 1 && digits[0] == '0')) return false;
    if (int64_t n = 0; whole && std::from_chars(begin, end, n).ec == std::errc()) {
      value = minus ? -n : n;
      return true;
    }
    double d = 0;
    if (digits[0] == '.') digits.insert(0, "0");
    char* rest = nullptr;
    d = std::strtod(digits.c_str(), &rest);
    if (*rest || !std::isfinite(d)) return false;
    value = minus ? -d : d;
    return true;
  }

  bool value(OrderedJson& out, int depth) {
    if (depth > kMaxDepth) return false;
    const char c = peek();
    if (c == '"' || c == '\'') {
      std::string whole;
      while (peek() == '"' || peek() == '\'')  // texts side by side are one
        if (!quoted(whole)) return false;
      out = std::move(whole);
      return true;
    }
    if (c == '-' || c == '+' || c == '.' || std::isdigit(static_cast<unsigned char>(c))) return number(out);
    if (c == '[' || c == '(') return list(out, depth);
    if (c == '{') return dictionary(out, depth);
    std::string word;
    if (!name(word)) return false;
    const bool outside = depth == 0;  // the words of JSON, which stand for values there alone
    if (word == "True" || (outside && word == "true")) out = true;
    else if (word == "False" || (outside && word == "false")) out = false;
    else if (word == "None" || (outside && word == "null")) out = nullptr;
    else return false;
    return true;
  }

  bool list(OrderedJson& out, int depth) {
    const char close = text[at++] == '[' ? ']' : ')';
    out = OrderedJson::array();
    bool comma = false;
    while (!take(close)) {
      if (!out.empty() && !comma) return false;
      OrderedJson item;
      if (!value(item, depth + 1)) return false;
      out.push_back(std::move(item));
      comma = take(',');
    }
    if (close == ')' && out.size() == 1 && !comma) {
      OrderedJson only = out[0];
      out = std::move(only);  // brackets around a value
    }
    return true;
  }

  bool dictionary(OrderedJson& out, int depth) {
    ++at;
    out = OrderedJson::object();
    bool comma = true;
    while (!take('}')) {
      OrderedJson key, item;
      if (!comma || !value(key, depth + 1) || key.is_structured() || !take(':') || !value(item, depth + 1)) return false;
      out[key.is_string() ? key.get<std::string>() : python_json(key)] = std::move(item);
      comma = take(',');
    }
    return true;
  }

  bool call(ToolCall& out) {
    if (!name(out.name) || !take('(')) return false;
    OrderedJson arguments = OrderedJson::object();
    bool comma = true;
    while (!take(')')) {
      if (!comma) return false;
      const size_t before = at;
      std::string key;
      OrderedJson item;
      if (name(key) && take('=')) {
        if (!value(item, 0)) return false;
        arguments[key] = std::move(item);
      } else {  // without a name
        at = before;
        if (!value(item, 0)) return false;
      }
      comma = take(',');
    }
    out.arguments = python_json(arguments);
    return true;
  }
};

}  // namespace

std::optional<std::vector<ToolCall>> read_python_calls(std::string_view text) {
  Reader reader{text};
  std::vector<ToolCall> calls;
  const bool list = reader.take('[');
  bool comma = true;
  while (comma && !(list && reader.peek() == ']')) {
    calls.emplace_back();
    if (!reader.call(calls.back())) return std::nullopt;
    comma = list && reader.take(',');
  }
  if (list && !reader.take(']')) return std::nullopt;
  if (reader.peek() != '\0' || reader.at < text.size() || calls.empty()) return std::nullopt;
  return calls;
}

}  // namespace loraine
