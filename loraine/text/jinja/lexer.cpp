// Jinja source to tokens. The rules follow Jinja's documentation: whitespace control ("-", "+"), trim_blocks (one newline after a
// block goes), lstrip_blocks (blanks before a block that begins its line go), one trailing newline of the template goes.
#include "loraine/text/jinja/lexer.h"

#include <fmt/format.h>

#include <cstring>

#include "loraine/text/jinja/value.h"

namespace loraine::jinja {
namespace {

constexpr size_t kMaxSource = 512 << 10;

bool digit(char c) { return c >= '0' && c <= '9'; }
bool name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80); }

std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t k = 0; k < source.size(); ++k) {
    if (source[k] == '\r') {
      out += '\n';
      if (k + 1 < source.size() && source[k + 1] == '\n') ++k;
    } else {
      out += source[k];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

struct Lexer {
  std::string s;
  size_t at = 0;
  int line = 1;
  bool line_starting = true;
  std::vector<Token> tokens;

  [[noreturn]] void error(const std::string& message) { throw JinjaError("TemplateSyntaxError", message, line); }
  bool starts(const char* text) const { return s.compare(at, std::strlen(text), text) == 0; }
  void add(TokenType type, std::string text) { tokens.push_back({type, std::move(text), line}); }
  void advance(size_t to) {
    for (; at < to; ++at) line += s[at] == '\n';
  }
  void skip_spaces() {
    std::string_view rest = std::string_view(s).substr(at);
    advance(at + rest.size() - strip(rest, true, false).size());
  }

  // The text before a tag, after "-" or lstrip_blocks took its share. sign: the character behind the opening delimiter.
  std::string_view before_tag(std::string_view text, char sign, bool variable) const {
    if (sign == '-') return strip(text, false, true);
    if (sign == '+' || variable) return text;
    size_t newline = text.rfind('\n');
    size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    if ((begin > 0 || line_starting) && strip(text.substr(begin), true, false).empty()) return text.substr(0, begin);
    return text;
  }

  // Behind a closing delimiter: "-" eats all blanks, otherwise a block or comment eats one newline.
  void after_tag(char sign, bool trim) {
    size_t begin = at;
    if (sign == '-') skip_spaces();
    else if (trim && sign != '+' && at < s.size() && s[at] == '\n') advance(at + 1);
    line_starting = at > begin && s[at - 1] == '\n';
  }

  // At "{%": the end of `{% NAME %}` if that stands here, else 0; sets the signs.
  size_t match_word_tag(size_t from, const char* word, char* open_sign, char* close_sign) const {
    size_t k = from + 2;
    *open_sign = k < s.size() && (s[k] == '-' || s[k] == '+') ? s[k++] : '\0';
    auto spaces = [&] {
      while (k < s.size() && is_space(static_cast<unsigned char>(s[k])) && !(s[k] & 0x80)) ++k;
    };
    spaces();
    if (s.compare(k, std::strlen(word), word) != 0) return 0;
    k += std::strlen(word);
    spaces();
    *close_sign = k < s.size() && (s[k] == '-' || s[k] == '+') ? s[k++] : '\0';
    if (s.compare(k, 2, "%}") != 0) return 0;
    return k + 2;
  }

  void raw_block() {  // behind {% raw %}
    for (size_t k = s.find("{%", at); k != std::string::npos; k = s.find("{%", k + 2)) {
      char open, close;
      size_t end = match_word_tag(k, "endraw", &open, &close);
      if (end == 0) continue;
      std::string text(before_tag(std::string_view(s).substr(at, k - at), open, false));
      if (!text.empty()) add(TokenType::Data, text);
      advance(end);
      after_tag(close, true);
      return;
    }
    error("Missing end of raw directive");
  }

  std::string unescape(std::string_view raw) {
    std::string out;
    for (size_t k = 0; k < raw.size(); ++k) {
      if (raw[k] != '\\' || k + 1 >= raw.size()) {
        out += raw[k];
        continue;
      }
      char c = raw[++k];
      static const char* const kFrom = "abfnrtv\\'\"";
      static const char* const kTo = "\a\b\f\n\r\t\v\\'\"";
      if (c == '\n') continue;
      if (const char* p = std::strchr(kFrom, c); p && c) {
        out += kTo[p - kFrom];
      } else if (c >= '0' && c <= '7') {
        uint32_t x = 0;
        size_t n = 0;
        for (; n < 3 && k + n < raw.size() && raw[k + n] >= '0' && raw[k + n] <= '7'; ++n)
          x = x * 8 + static_cast<uint32_t>(raw[k + n] - '0');
        k += n - 1;
        append_utf8(out, x);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        std::string hex(raw.substr(k + 1, n));
        if (hex.size() != n || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
          error(fmt::format("truncated \\{} escape in a string", c));
        auto x = static_cast<uint32_t>(std::stoul(hex, nullptr, 16));
        if (x > 0x10ffff) error("illegal Unicode character in a string");
        k += n;
        if (x >= 0xd800 && x < 0xe000) error("lone surrogate in a string");
        append_utf8(out, x);
      } else {
        (out += '\\') += c;
      }
    }
    return out;
  }

  size_t digits(size_t k) const {  // (\d+_)*\d+ from k; k itself if none
    size_t end = k;
    while (end < s.size() && (digit(s[end]) || (s[end] == '_' && end > k && digit(s[end - 1]) && end + 1 < s.size() && digit(s[end + 1]))))
      ++end;
    return end;
  }

  void number() {
    std::string text;
    auto take = [&](size_t end) {
      for (size_t k = at; k < end; ++k)
        if (s[k] != '_') text += s[k];
      advance(end);
    };
    char next = at + 1 < s.size() ? static_cast<char>(s[at + 1] | 0x20) : '\0';
    if (s[at] == '0' && (next == 'x' || next == 'o' || next == 'b')) {
      const char* allowed = next == 'x' ? "0123456789abcdefABCDEF_" : next == 'o' ? "01234567_" : "01_";
      size_t end = s.find_first_not_of(allowed, at + 2);
      if (end == std::string::npos) end = s.size();
      if (end > at + 2) {
        take(end);
        return add(TokenType::Integer, text);
      }
    }
    bool after_dot = at > 0 && s[at - 1] == '.';
    size_t whole = digits(at), end = whole;
    bool is_float = false;
    if (!after_dot) {
      if (end < s.size() && s[end] == '.' && digits(end + 1) > end + 1) {
        end = digits(end + 1);
        is_float = true;
      }
      if (end < s.size() && (s[end] | 0x20) == 'e') {
        size_t k = end + 1;
        if (k < s.size() && (s[k] == '+' || s[k] == '-')) ++k;
        if (digits(k) > k) {
          end = digits(k);
          is_float = true;
        }
      }
    }
    if (!is_float && s[at] == '0')
      for (whole = at; whole < s.size() && s[whole] == '0';) ++whole;
    take(is_float ? end : whole);
    add(is_float ? TokenType::Float : TokenType::Integer, text);
  }

  void text_literal() {
    size_t k = at + 1;
    while (k < s.size() && s[k] != s[at]) k += s[k] == '\\' ? 2 : 1;
    if (k >= s.size()) error(fmt::format("unexpected char {} at {}", s[at] == '\'' ? "\"'\"" : "'\"'", at));
    add(TokenType::Text, unescape(std::string_view(s).substr(at + 1, k - at - 1)));
    advance(k + 1);
  }

  // Inside {% … %} or {{ … }} up to and with the closing delimiter.
  void expression(bool variable) {
    const char* close = variable ? "}}" : "%}";
    std::string open;  // brackets
    for (;;) {
      skip_spaces();
      if (at >= s.size()) return;
      if (open.empty()) {
        bool sign = (s[at] == '-' || (s[at] == '+' && !variable)) && s.compare(at + 1, 2, close) == 0;
        if (sign || starts(close)) {
          char mark = sign ? s[at] : '\0';
          add(variable ? TokenType::VariableEnd : TokenType::BlockEnd, "");
          advance(at + (sign ? 3 : 2));
          return after_tag(mark, !variable);
        }
      }
      char c = s[at];
      if (digit(c)) number();
      else if (name_start(c)) {
        size_t k = at;
        while (k < s.size() && (name_start(s[k]) || digit(s[k]))) ++k;
        add(TokenType::Name, s.substr(at, k - at));
        advance(k);
      } else if (c == '\'' || c == '"') text_literal();
      else operator_token(open);
    }
  }

  void operator_token(std::string& open) {
    static const char* const kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                             "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (const char* op : kOperators) {
      if (!starts(op)) continue;
      char c = op[0];
      if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
      if (c == ')' || c == ']' || c == '}') {
        if (open.empty()) error(fmt::format("unexpected '{}'", c));
        if (open.back() != c) error(fmt::format("unexpected '{}', expected '{}'", c, open.back()));
        open.pop_back();
      }
      add(TokenType::Operator, op);
      return advance(at + std::strlen(op));
    }
    error(fmt::format("unexpected char '{}' at {}", s[at], at));
  }

  void comment() {
    size_t end = s.find("#}", at);
    if (end == std::string::npos) error("Missing end of comment tag");
    char sign = end > at && (s[end - 1] == '-' || s[end - 1] == '+') ? s[end - 1] : '\0';
    advance(end + 2);
    after_tag(sign, true);
  }

  void run() {
    while (at < s.size()) {
      size_t tag = at;
      for (;; ++tag) {
        tag = s.find('{', tag);
        if (tag == std::string::npos || (tag + 1 < s.size() && std::strchr("%{#", s[tag + 1]) && s[tag + 1])) break;
      }
      if (tag == std::string::npos) {
        add(TokenType::Data, s.substr(at));
        break;
      }
      char kind = s[tag + 1], sign = tag + 2 < s.size() ? s[tag + 2] : '\0', raw_open = 0, raw_close = 0;
      if (sign != '-' && sign != '+') sign = '\0';
      size_t raw = kind == '%' ? match_word_tag(tag, "raw", &raw_open, &raw_close) : 0;
      if (raw_close == '+') raw = 0;
      std::string text(before_tag(std::string_view(s).substr(at, tag - at), sign, kind == '{'));
      if (!text.empty()) add(TokenType::Data, text);
      if (raw) {
        advance(raw);
        after_tag(raw_close, false);
        raw_block();
        continue;
      }
      advance(tag + 2 + (sign ? 1 : 0));
      line_starting = false;
      if (kind == '#') {
        comment();
        continue;
      }
      add(kind == '{' ? TokenType::VariableBegin : TokenType::BlockBegin, "");
      expression(kind == '{');
    }
    add(TokenType::End, "");
  }
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  if (source.size() > kMaxSource)
    fail("TemplateSyntaxError", fmt::format("template of {} bytes is larger than {}", source.size(), kMaxSource));
  Lexer lexer;
  lexer.s = normalize_newlines(source);
  lexer.run();
  return std::move(lexer.tokens);
}

std::string describe(const Token& token) {
  switch (token.type) {
    case TokenType::Data: return "template data / text";
    case TokenType::BlockBegin: return "begin of statement block";
    case TokenType::BlockEnd: return "end of statement block";
    case TokenType::VariableBegin: return "begin of print statement";
    case TokenType::VariableEnd: return "end of print statement";
    case TokenType::End: return "end of template";
    default: return token.text;
  }
}

}  // namespace loraine::jinja
