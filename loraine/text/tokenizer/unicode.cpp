// See unicode.h. Normal forms use utf8proc's tables; marks are sorted here, since utf8proc sorts a long run of them in quadratic time.
#include "loraine/text/tokenizer/unicode.h"

#include <simdjson.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "loraine/core/error.h"

namespace loraine::tokens {

char32_t last_char(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80) --at;
  return next_char(text, at);
}

void append_char(std::string& out, char32_t c) {
  auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

bool valid_utf8(std::string_view bytes) { return simdjson::validate_utf8(bytes.data(), bytes.size()); }

// Bytes of the character at `at` if it is valid, else minus the bytes of the maximal invalid part.
static int utf8_part(std::string_view bytes, size_t at) {
  auto byte = [&](size_t i) { return at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0u; };
  unsigned first = byte(0), low = 0x80, high = 0xBF;
  if (first < 0x80) return 1;
  int length = first >= 0xC2 && first <= 0xDF ? 2 : first >= 0xE0 && first <= 0xEF ? 3 : first >= 0xF0 && first <= 0xF4 ? 4 : 0;
  if (length == 0) return -1;
  if (first == 0xE0) low = 0xA0;
  if (first == 0xED) high = 0x9F;
  if (first == 0xF0) low = 0x90;
  if (first == 0xF4) high = 0x8F;
  if (byte(1) < low || byte(1) > high) return -1;
  for (int i = 2; i < length; ++i)
    if ((byte(static_cast<size_t>(i)) & 0xC0u) != 0x80) return -i;
  return length;
}

std::string repair_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    int part = utf8_part(bytes, at);
    size_t length = static_cast<size_t>(part < 0 ? -part : part);
    out.append(part < 0 ? kReplacement : bytes.substr(at, length));
    at += length;
  }
  return out;
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  auto k = category(c);
  if (k == UTF8PROC_CATEGORY_CN)  // numbers of scripts newer than utf8proc's tables (Unicode 15 and 16)
    return (c >= 0x1D2C0 && c <= 0x1D2D3) || (c >= 0x11F50 && c <= 0x11F59) || (c >= 0x10D40 && c <= 0x10D49) ||
           (c >= 0x1E5F1 && c <= 0x1E5FA) || (c >= 0x11DE0 && c <= 0x11DE9) || (c >= 0x11BF0 && c <= 0x11BF9) ||
           (c >= 0x116D0 && c <= 0x116E3) || (c >= 0x1CCF0 && c <= 0x1CCF9) || (c >= 0x16130 && c <= 0x16139) ||
           (c >= 0x1E4F0 && c <= 0x1E4F9);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool is_mark(char32_t c) {
  auto k = category(c);
  return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME;
}

bool is_word(char32_t c) {
  auto k = category(c);
  return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) || is_mark(c) || k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL ||
         k == UTF8PROC_CATEGORY_PC;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  auto k = category(c);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

// The library's normal forms are those of Unicode 9: a later character stays as it is, sorts no marks and composes with nothing.
// Only characters that utf8proc's newer tables treat otherwise are listed, with whole later blocks around them.
static bool later_than_unicode_9(utf8proc_int32_t c) {
  static constexpr std::array<std::array<utf8proc_int32_t, 2>, 46> kLater = {
      {{0x7FD, 0x7FD},     {0x897, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},     {0xD3B, 0xD3C},
       {0xEBA, 0xEBA},     {0xECE, 0xECE},     {0x1715, 0x1715},   {0x1ABF, 0x1AEB},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},
       {0xA7F1, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x105C0, 0x105FF}, {0x10781, 0x107BA}, {0x10D24, 0x10D27},
       {0x10D69, 0x10D6D}, {0x10EAB, 0x10EAC}, {0x10EFA, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
       {0x1133B, 0x1133B}, {0x11380, 0x113FF}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11900, 0x11946}, {0x119E0, 0x119E0},
       {0x11A00, 0x11AFF}, {0x11D00, 0x11DFF}, {0x11F00, 0x11F5F}, {0x16100, 0x1613F}, {0x16D40, 0x16D7F}, {0x16FF0, 0x16FF6},
       {0x1CCD6, 0x1CCF9}, {0x1E030, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
       {0x1E5EE, 0x1E5EF}, {0x1E6E0, 0x1E6FF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}}};
  if (c < kLater.front()[0]) return false;
  auto range = std::upper_bound(kLater.begin(), kLater.end(), c, [](utf8proc_int32_t value, const auto& r) { return value < r[0]; });
  return c <= (range - 1)->at(1);
}

static int combining_class(utf8proc_int32_t c) {
  return c < 0x300 || later_than_unicode_9(c) ? 0 : utf8proc_get_property(c)->combining_class;
}

// U+11A7 too composes with nothing, though utf8proc takes it for a Hangul tail and loses it.
static bool stands_alone(utf8proc_int32_t c) { return c == 0x11A7 || later_than_unicode_9(c); }

// Composes in place what lies between characters that stand alone; returns how many characters are left.
static size_t compose(std::vector<utf8proc_int32_t>& chars) {
  size_t kept = 0;
  for (size_t i = 0; i < chars.size();) {
    size_t end = i;
    while (end < chars.size() && !stands_alone(chars[end])) ++end;
    auto count = utf8proc_normalize_utf32(chars.data() + i, static_cast<utf8proc_ssize_t>(end - i),
                                          static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (count < 0) throw Error(ErrorKind::internal, "utf8proc could not compose a text");
    auto run = chars.begin() + static_cast<std::ptrdiff_t>(i);
    std::copy(run, run + count, chars.begin() + static_cast<std::ptrdiff_t>(kept));
    kept += static_cast<size_t>(count);
    for (i = end; i < chars.size() && stands_alone(chars[i]); ++i) chars[kept++] = chars[i];
  }
  return kept;
}

// Characters of common scripts that are starters, their own NFC, and never the second part of a composition.
static bool stays_in_nfc(char32_t c) {
  return c < 0x300 || (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3) || (c >= 0x3000 && c <= 0x3029) ||
         (c >= 0x3030 && c <= 0x3098) || (c >= 0x309D && c <= 0x30FF) || (c >= 0xFF01 && c <= 0xFFEE) || (c >= 0x2010 && c <= 0x2027) ||
         (c >= 0x2030 && c <= 0x205E) || (c >= 0x400 && c <= 0x482) || (c >= 0x48A && c <= 0x52F) || (c >= 0x391 && c <= 0x3CE) ||
         (c >= 0x2190 && c <= 0x2328) || (c >= 0x2500 && c <= 0x27BF) || (c >= 0x1F300 && c <= 0x1FAFF);
}

static std::string normal_of_all(std::string_view text, Form form);

// Only what does not stay as it is goes through the tables, with the character before it, which may compose.
static std::string nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t done = 0, last = 0;  // [done, …) is not yet in out; last: the begin of the character before
  for (size_t at = 0; at < text.size();) {
    size_t begin = at;
    if (static_cast<unsigned char>(text[at]) < 0xCC) {
      last = begin;
      at += static_cast<unsigned char>(text[at]) < 0x80 ? 1 : 2;
      continue;
    }
    if (stays_in_nfc(next_char(text, at))) {
      last = begin;
      continue;
    }
    size_t end = at;
    while (at < text.size() && !stays_in_nfc(next_char(text, at))) end = at;
    last = std::max(last, done);
    out.append(text, done, last - done);
    out += normal_of_all(text.substr(last, end - last), Form::nfc);
    done = last = at = end;
  }
  out.append(text, done);
  return out;
}

std::string unicode_normal(std::string_view text, Form form) { return form == Form::nfc ? nfc(text) : normal_of_all(text, form); }

static std::string normal_of_all(std::string_view text, Form form) {
  // Below U+0300 (first byte 0xCC) every character is its own NFC; ASCII is its own form everywhere.
  unsigned char limit = form == Form::nfc ? 0xCC : 0x80;
  if (std::none_of(text.begin(), text.end(), [&](char c) { return static_cast<unsigned char>(c) >= limit; })) return std::string(text);
  bool compatible = form == Form::nfkc || form == Form::nfkd, composed = form == Form::nfc || form == Form::nfkc;
  auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> chars;
  chars.reserve(text.size() + 32);
  for (size_t at = 0; at < text.size();) {
    auto c = static_cast<utf8proc_int32_t>(next_char(text, at));
    if (c < 0x80 || later_than_unicode_9(c)) {
      chars.push_back(c);
      continue;
    }
    std::array<utf8proc_int32_t, 32> parts{};  // the longest decomposition has 18 characters
    int boundary = 0;
    auto n = utf8proc_decompose_char(c, parts.data(), static_cast<utf8proc_ssize_t>(parts.size()), options, &boundary);
    if (n < 0 || n > static_cast<utf8proc_ssize_t>(parts.size()))
      throw Error(ErrorKind::internal, "utf8proc could not decompose a character");
    chars.insert(chars.end(), parts.begin(), parts.begin() + n);
  }
  for (size_t i = 0; i < chars.size();) {
    if (combining_class(chars[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < chars.size() && combining_class(chars[end]) != 0) ++end;
    std::stable_sort(chars.begin() + static_cast<std::ptrdiff_t>(i), chars.begin() + static_cast<std::ptrdiff_t>(end),
                     [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    i = end;
  }
  if (composed) chars.resize(compose(chars));
  std::string out;
  out.reserve(text.size());
  for (utf8proc_int32_t c : chars) append_char(out, static_cast<char32_t>(c));
  return out;
}

std::string lower_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    char32_t c = next_char(text, at);
    if (c == 0x130) out += "i\xCC\x87";  // the only character whose lower case has two
    else
      append_char(
          out, c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c) : static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
  return out;
}

namespace {
struct ByteTable {
  std::array<std::string, 256> text;
  std::array<int, 512> byte;
  ByteTable() {
    byte.fill(-1);
    char32_t next = 256;
    for (unsigned b = 0; b < 256; ++b) {
      bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      char32_t c = printable ? b : next++;
      append_char(text[b], c);
      byte[c] = static_cast<int>(b);
    }
  }
};
const ByteTable& byte_table() {
  static const ByteTable table;
  return table;
}
}  // namespace

std::string_view byte_to_printable(unsigned char byte) { return byte_table().text[byte]; }
int printable_to_byte(char32_t c) { return c < 512 ? byte_table().byte[c] : -1; }

size_t write_printable(std::string_view bytes, char* out) {
  static const std::array<std::array<char, 2>, 256> kStandIns = [] {
    std::array<std::array<char, 2>, 256> table{};
    for (unsigned b = 0; b < 256; ++b) {
      std::string_view s = byte_to_printable(static_cast<unsigned char>(b));
      table[b] = {s[0], s.size() > 1 ? s[1] : '\0'};
    }
    return table;
  }();
  const auto& stand_ins = kStandIns;
  size_t n = 0;
  for (char c : bytes) {
    const auto& stand_in = stand_ins[static_cast<unsigned char>(c)];
    out[n] = stand_in[0];
    out[n + 1] = stand_in[1];
    n += 1 + (stand_in[1] != 0);
  }
  return n;
}

void append_printable(std::string& out, std::string_view bytes) {
  char block[512];
  for (size_t begin = 0; begin < bytes.size(); begin += 256) out.append(block, write_printable(bytes.substr(begin, 256), block));
}

}  // namespace loraine::tokens
