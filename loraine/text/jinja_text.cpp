// Python's text functions over UTF-8, on utf8proc's tables.
#include "loraine/text/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>

#include "loraine/text/jinja_builtins.h"

namespace loraine::jinja {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }
bool letter(char32_t c) {
  auto k = category(c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}
bool is_upper(char32_t c) { return utf8proc_isupper(static_cast<utf8proc_int32_t>(c)); }
bool is_lower(char32_t c) { return utf8proc_islower(static_cast<utf8proc_int32_t>(c)); }
bool is_title(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }
bool cased(char32_t c) { return is_upper(c) || is_lower(c) || is_title(c); }

// Upper case of characters that become several (Unicode's SpecialCasing, unconditional).
const char* special_upper(char32_t c) {
  switch (c) {
    case 0xdf: return "SS";
    case 0x149: return "\u02bcN";
    case 0x1f0: return "J\u030c";
    case 0x390: return "\u0399\u0308\u0301";
    case 0x3b0: return "\u03a5\u0308\u0301";
    case 0x587: return "\u0535\u0552";
    case 0x1e96: return "H\u0331";
    case 0x1e97: return "T\u0308";
    case 0x1e98: return "W\u030a";
    case 0x1e99: return "Y\u030a";
    case 0x1e9a: return "A\u02be";
    case 0xfb00: return "FF";
    case 0xfb01: return "FI";
    case 0xfb02: return "FL";
    case 0xfb03: return "FFI";
    case 0xfb04: return "FFL";
    case 0xfb05:
    case 0xfb06: return "ST";
    default: return nullptr;
  }
}

void append_upper(std::string& out, char32_t c) {
  if (const char* special = special_upper(c)) out += special;
  else append_utf8(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}
void append_title(std::string& out, char32_t c) {
  if (const char* special = special_upper(c)) {
    out += special[0];
    out += c == 0xdf ? "s" : lower(special + 1);
  } else {
    append_utf8(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
  }
}

using Characters = std::vector<std::string_view>;

// A sigma is final when a cased letter stands before it and none after it.
void append_lower(std::string& out, const Characters& s, size_t k) {
  char32_t c = decode(s[k]);
  if (c == 0x130) {
    out += "i\u0307";
    return;
  }
  if (c == 0x3a3) {
    auto ignorable = [](char32_t x) {
      auto t = category(x);
      return x == '\'' || x == '.' || x == ':' || x == 0xb7 || x == 0x2019 || t == UTF8PROC_CATEGORY_MN || t == UTF8PROC_CATEGORY_ME ||
             t == UTF8PROC_CATEGORY_CF || t == UTF8PROC_CATEGORY_LM || t == UTF8PROC_CATEGORY_SK;
    };
    size_t before = k, after = k + 1;
    while (before > 0 && ignorable(decode(s[before - 1]))) --before;
    while (after < s.size() && ignorable(decode(s[after]))) ++after;
    bool final = before > 0 && cased(decode(s[before - 1])) && !(after < s.size() && cased(decode(s[after])));
    append_utf8(out, final ? 0x3c2 : 0x3c3);
    return;
  }
  append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

bool line_end(char32_t c) { return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029; }
}  // namespace

std::string upper(const std::string& text) {
  std::string out;
  for (auto s : split_code_points(text)) append_upper(out, decode(s));
  return out;
}

std::string lower(const std::string& text) {
  std::string out;
  Characters s = split_code_points(text);
  for (size_t k = 0; k < s.size(); ++k) append_lower(out, s, k);
  return out;
}

std::string casefold(const std::string& text) {
  std::string out;
  for (auto s : split_code_points(text)) {
    utf8proc_int32_t folded[8];
    auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(decode(s)), folded, 8, UTF8PROC_CASEFOLD, nullptr);
    if (n <= 0 || n > 8) out += s;
    for (utf8proc_ssize_t k = 0; k < n && n <= 8; ++k) append_utf8(out, static_cast<char32_t>(folded[k]));
  }
  return out;
}

std::string capitalize(const std::string& text) {
  std::string out;
  Characters s = split_code_points(text);
  for (size_t k = 0; k < s.size(); ++k) {
    if (k == 0) append_title(out, decode(s[0]));
    else append_lower(out, s, k);
  }
  return out;
}

std::string title(const std::string& text) {
  std::string out;
  bool inside = false;
  Characters s = split_code_points(text);
  for (size_t k = 0; k < s.size(); ++k) {
    char32_t c = decode(s[k]);
    if (inside) append_lower(out, s, k);
    else append_title(out, c);
    inside = cased(c);
  }
  return out;
}

std::string swapcase(const std::string& text) {
  std::string out;
  Characters s = split_code_points(text);
  for (size_t k = 0; k < s.size(); ++k) {
    if (is_upper(decode(s[k]))) append_lower(out, s, k);
    else append_upper(out, decode(s[k]));
  }
  return out;
}

bool word_character(char32_t c) {
  auto k = category(c);
  return c == '_' || letter(c) || (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

bool is_class(const std::string& text, const std::string& name) {
  Characters characters = split_code_points(text);
  if (name == "isascii") return std::all_of(text.begin(), text.end(), [](char c) { return !(c & 0x80); });
  if (name == "istitle") {
    bool inside = false, any = false;
    for (auto s : characters) {
      char32_t c = decode(s);
      if (is_upper(c) || is_title(c)) {
        if (inside) return false;
        inside = any = true;
      } else if (is_lower(c)) {
        if (!inside) return false;
      } else inside = false;
    }
    return any;
  }
  bool any = false;
  for (auto s : characters) {
    char32_t c = decode(s);
    auto k = category(c);
    bool decimal = k == UTF8PROC_CATEGORY_ND;
    bool superscript = c == 0xb2 || c == 0xb3 || c == 0xb9 || (c >= 0x2070 && c <= 0x2089) || (c >= 0x2460 && c <= 0x249b);
    bool numeric = decimal || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
    if (name == "isupper" || name == "islower") {
      if (name == "isupper" ? (is_lower(c) || is_title(c)) : (is_upper(c) || is_title(c))) return false;
      any = any || (name == "isupper" ? is_upper(c) : is_lower(c));
      continue;
    }
    bool good = name == "isalpha"     ? letter(c)
                : name == "isalnum"   ? letter(c) || numeric
                : name == "isdecimal" ? decimal
                : name == "isdigit"   ? decimal || superscript
                : name == "isnumeric" ? numeric
                                      : is_space(c);
    if (!good) return false;
    any = true;
  }
  return any;
}

std::vector<std::string> split_words(const std::string& text, int64_t limit, bool from_right) {
  std::vector<std::string> out;
  std::string_view rest = strip(text, true, true);
  if (rest.empty()) return out;
  if (limit > static_cast<int64_t>(text.size()) || !from_right) {
    Characters s = split_code_points(rest);
    size_t k = 0, at = 0;
    while (k < s.size()) {
      if (limit-- <= 0) {
        out.push_back(std::string(
            strip(from_right ? rest.substr(at) : std::string_view(text).substr(static_cast<size_t>(rest.data() - text.data()) + at), true,
                  false)));
        if (!from_right) out.back() = std::string(strip(out.back(), true, false));
        return out;
      }
      size_t begin = at;
      for (; k < s.size() && !is_space(decode(s[k])); ++k) at += s[k].size();
      out.push_back(std::string(rest.substr(begin, at - begin)));
      for (; k < s.size() && is_space(decode(s[k])); ++k) at += s[k].size();
    }
    return out;
  }
  rest = strip(text, false, true);
  while (!rest.empty()) {
    if (limit-- <= 0) {
      out.push_back(std::string(rest));
      break;
    }
    Characters s = split_code_points(rest);
    size_t begin = rest.size();
    for (size_t k = s.size(); k > 0 && !is_space(decode(s[k - 1])); --k) begin -= s[k - 1].size();
    out.push_back(std::string(rest.substr(begin)));
    rest = strip(rest.substr(0, begin), false, true);
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string> split_lines(const std::string& text, bool keep_ends) {
  std::vector<std::string> out;
  Characters s = split_code_points(text);
  std::string line;
  for (size_t k = 0; k < s.size(); ++k) {
    if (!line_end(decode(s[k]))) {
      line += s[k];
      if (k + 1 == s.size()) out.push_back(line);
      continue;
    }
    bool pair = s[k] == "\r" && k + 1 < s.size() && s[k + 1] == "\n";
    if (keep_ends) (line += s[k]) += pair ? "\n" : "";
    k += pair;
    out.push_back(std::move(line));
    line.clear();
  }
  return out;
}

std::string pad(const std::string& text, int64_t width, const std::string& fill, char align) {
  int64_t n = count_code_points(text);
  if (width <= n) return text;
  charge_bytes(width);
  int64_t blanks = width - n, left = align == '<' ? 0 : align == '>' ? blanks : blanks / 2 + (align == 'c' ? blanks & width & 1 : 0);
  std::string out;
  for (int64_t k = 0; k < left; ++k) out += fill;
  out += text;
  for (int64_t k = left; k < blanks; ++k) out += fill;
  return out;
}

std::string replace_all(const std::string& text, const std::string& from, const std::string& to, int64_t count) {
  if (count < 0) count = INT64_MAX;
  std::string out;
  auto grown = [&] {
    if (out.size() > (size_t{1} << 20)) charge_bytes(static_cast<int64_t>(out.size() / 1024));
    if (out.size() > (size_t{64} << 20)) charge_bytes(static_cast<int64_t>(out.size()));
  };
  if (from.empty()) {
    for (auto s : split_code_points(text)) {
      if (count-- > 0) out += to;
      out += s;
      grown();
    }
    if (count > 0) out += to;
    return out;
  }
  size_t at = 0;
  for (size_t hit; count > 0 && (hit = text.find(from, at)) != std::string::npos; --count, at = hit + from.size()) {
    out.append(text, at, hit - at);
    out += to;
    grown();
  }
  out.append(text, at);
  return out;
}

}  // namespace loraine::jinja
