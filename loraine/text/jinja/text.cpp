// Python's text functions over UTF-8, on utf8proc's tables.
#include "loraine/text/jinja/text.h"

#include <utf8proc.h>

#include <algorithm>

#include "loraine/text/jinja/builtins.h"

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

// The character text[at:end] in lower case. A sigma is final when a cased letter stands before it and none after it.
void append_lower(std::string& out, std::string_view text, size_t at, size_t end) {
  char32_t c = decode(text.substr(at, end - at));
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
    char32_t before = 0, after = 0;  // the next characters that count, 0 for none
    for (size_t k = at; k > 0 && before == 0;) {
      size_t begin = k - 1;
      while (begin > 0 && (text[begin] & 0xc0) == 0x80 && k - begin < 4) --begin;
      char32_t x = decode(text.substr(begin, k - begin));
      if (!ignorable(x)) before = x;
      k = begin;
    }
    for (size_t k = end; k < text.size() && after == 0;) {
      size_t stop = code_point_end(text, k);
      char32_t x = decode(text.substr(k, stop - k));
      if (!ignorable(x)) after = x;
      k = stop;
    }
    append_utf8(out, cased(before) && !cased(after) ? 0x3c2 : 0x3c3);
    return;
  }
  append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

// Calls each(character, at, end) from left to right.
template <typename Each>
void each_character(std::string_view text, const Each& each) {
  charge(static_cast<int64_t>(text.size() / 4));
  for (size_t at = 0; at < text.size();) {
    size_t end = code_point_end(text, at);
    each(decode(text.substr(at, end - at)), at, end);
    at = end;
  }
}

bool line_end(char32_t c) { return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029; }
}  // namespace

std::string upper(const std::string& text) {
  std::string out;
  each_character(text, [&](char32_t c, size_t, size_t) { append_upper(out, c); });
  return out;
}

std::string lower(const std::string& text) {
  std::string out;
  each_character(text, [&](char32_t, size_t at, size_t end) { append_lower(out, text, at, end); });
  return out;
}

std::string casefold(const std::string& text) {
  std::string out;
  for (auto s : CodePoints(text)) {
    utf8proc_int32_t folded[8];
    auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(decode(s)), folded, 8, UTF8PROC_CASEFOLD, nullptr);
    if (n <= 0 || n > 8) out += s;
    for (utf8proc_ssize_t k = 0; k < n && n <= 8; ++k) append_utf8(out, static_cast<char32_t>(folded[k]));
  }
  return out;
}

std::string capitalize(const std::string& text) {
  std::string out;
  each_character(text, [&](char32_t c, size_t at, size_t end) {
    if (at == 0) append_title(out, c);
    else append_lower(out, text, at, end);
  });
  return out;
}

std::string title(const std::string& text) {
  std::string out;
  bool inside = false;
  each_character(text, [&](char32_t c, size_t at, size_t end) {
    if (inside) append_lower(out, text, at, end);
    else append_title(out, c);
    inside = cased(c);
  });
  return out;
}

std::string swapcase(const std::string& text) {
  std::string out;
  each_character(text, [&](char32_t c, size_t at, size_t end) {
    if (is_upper(c)) append_lower(out, text, at, end);
    else append_upper(out, c);
  });
  return out;
}

bool word_character(char32_t c) {
  auto k = category(c);
  return c == '_' || letter(c) || (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

bool is_class(const std::string& text, const std::string& name) {
  CodePoints characters(text);
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
  if (name == "isprintable") {
    for (auto s : characters)
      if (!printable(decode(s))) return false;
    return true;
  }
  if (name == "isidentifier") {
    for (auto s : characters) {
      char32_t c = decode(s);
      auto k = category(c);
      bool later = k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_PC;
      if (!(letter(c) || c == '_' || k == UTF8PROC_CATEGORY_NL || (later && s.data() != text.data()))) return false;
    }
    return !text.empty();
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

// Words between runs of blanks; after `limit` cuts the rest stays one word.
std::vector<std::string_view> split_words(const std::string& text, int64_t limit, bool from_right) {
  std::vector<std::string_view> out;
  std::string_view rest = strip(text, !from_right, from_right);
  charge(static_cast<int64_t>(rest.size() / 8));
  auto last_begin = [](std::string_view s) {
    size_t begin = s.size() - 1;
    while (begin > 0 && (s[begin] & 0xc0) == 0x80 && s.size() - begin < 4) --begin;
    return begin;
  };
  for (; !rest.empty(); --limit) {
    if (limit <= 0) {
      out.push_back(rest);
      break;
    }
    size_t at = from_right ? rest.size() : 0;
    if (from_right)
      for (size_t begin; at > 0 && (begin = last_begin(rest.substr(0, at)), !is_space(decode(rest.substr(begin, at - begin))));
           at = begin) {}
    else
      for (size_t end; at < rest.size() && (end = code_point_end(rest, at), !is_space(decode(rest.substr(at, end - at)))); at = end) {}
    charge_bytes(128);  // what the part will need as a value, so that there are not too many
    out.push_back(from_right ? rest.substr(at) : rest.substr(0, at));
    rest = from_right ? strip(rest.substr(0, at), false, true) : strip(rest.substr(at), true, false);
  }
  if (from_right) std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> out;
  charge(static_cast<int64_t>(text.size() / 8));
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    size_t end = code_point_end(text, at);
    if (line_end(decode(text.substr(at, end - at)))) {
      if (text[at] == '\r' && end < text.size() && text[end] == '\n') ++end;
      charge_bytes(128);
      out.push_back(text.substr(begin, (keep_ends ? end : at) - begin));
      begin = end;
    }
    at = end;
  }
  if (begin < text.size()) out.push_back(text.substr(begin));
  return out;
}

std::string pad(const std::string& text, int64_t width, const std::string& fill, char align) {
  int64_t n = count_code_points(text);
  if (width <= n) return text;
  charge_bytes(n > (int64_t{1} << 40) || width > (int64_t{1} << 40) ? int64_t{1} << 40 : width * static_cast<int64_t>(fill.size()));
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
  if (from.empty()) {
    for (auto s : CodePoints(text)) {
      if (count-- > 0) append(out, to);
      append(out, s);
    }
    if (count > 0) append(out, to);
    return out;
  }
  size_t at = 0;
  for (size_t hit; count > 0 && (hit = find_text(text, from, at)) != std::string::npos; --count, at = hit + from.size()) {
    append(out, std::string_view(text).substr(at, hit - at));
    append(out, to);
  }
  append(out, std::string_view(text).substr(at));
  return out;
}

}  // namespace loraine::jinja
