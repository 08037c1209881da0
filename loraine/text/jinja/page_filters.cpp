// Jinja's filters for web pages and letters: striptags, urlize, xmlattr, wordwrap.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "loraine/text/jinja/eval.h"
#include "loraine/text/jinja/filters.h"
#include "loraine/text/jinja/markup.h"
#include "loraine/text/jinja/pattern.h"
#include "loraine/text/jinja/text.h"

namespace loraine::jinja {
namespace {

// HTML's names of characters that count without a ';' too: the signs of its syntax and those of Latin-1.
constexpr std::string_view kEntities =
    "AElig 198 AMP 38 Aacute 193 Acirc 194 Agrave 192 Aring 197 Atilde 195 Auml 196 COPY 169 Ccedil 199 ETH 208 Eacute 201 Ecirc 202 "
    "Egrave 200 Euml 203 GT 62 Iacute 205 Icirc 206 Igrave 204 Iuml 207 LT 60 Ntilde 209 Oacute 211 Ocirc 212 Ograve 210 Oslash 216 "
    "Otilde 213 Ouml 214 QUOT 34 REG 174 THORN 222 Uacute 218 Ucirc 219 Ugrave 217 Uuml 220 Yacute 221 aacute 225 acirc 226 acute 180 "
    "aelig 230 agrave 224 amp 38 aring 229 atilde 227 auml 228 brvbar 166 ccedil 231 cedil 184 cent 162 copy 169 curren 164 deg 176 "
    "divide 247 eacute 233 ecirc 234 egrave 232 eth 240 euml 235 frac12 189 frac14 188 frac34 190 gt 62 iacute 237 icirc 238 iexcl 161 "
    "igrave 236 iquest 191 iuml 239 laquo 171 lt 60 macr 175 micro 181 middot 183 nbsp 160 not 172 ntilde 241 oacute 243 ocirc 244 "
    "ograve 242 ordf 170 ordm 186 oslash 248 otilde 245 ouml 246 para 182 plusmn 177 pound 163 quot 34 raquo 187 reg 174 sect 167 "
    "shy 173 sup1 185 sup2 178 sup3 179 szlig 223 thorn 254 times 215 uacute 250 ucirc 251 ugrave 249 uml 168 uuml 252 yacute 253 "
    "yen 165 yuml 255 ";

const std::map<std::string_view, char32_t>& entities() {
  static const std::map<std::string_view, char32_t> all = [] {
    std::map<std::string_view, char32_t> table;
    for (size_t at = 0; at < kEntities.size();) {
      const size_t blank = kEntities.find(' ', at), end = kEntities.find(' ', blank + 1);
      uint32_t number = 0;
      std::from_chars(kEntities.data() + blank + 1, kEntities.data() + end, number);
      table[kEntities.substr(at, blank - at)] = number;
      at = end + 1;
    }
    return table;
  }();
  return all;
}

// A number's character, as Python's html module reads it: what is no character of HTML goes.
void append_numbered(std::string& out, uint64_t number) {
  static constexpr char32_t kWindows[32] = {0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6,  0x2030, 0x160,
                                            0x2039, 0x152,  0x8d,   0x17d,  0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
                                            0x2013, 0x2014, 0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};
  if (number >= 0x80 && number < 0xa0) return append_utf8(out, kWindows[number - 0x80]);
  if (number == 0 || (number >= 0xd800 && number < 0xe000) || number > 0x10ffff) return append_utf8(out, 0xfffd);
  const bool control = (number < 0x20 && number != '\t' && number != '\n' && number != '\f' && number != '\r') || number == 0x7f;
  const bool none = (number & 0xfffe) == 0xfffe || (number >= 0xfdd0 && number < 0xfdf0);
  if (!control && !none) append_utf8(out, static_cast<char32_t>(number));
}

// text begins behind an &. Appends what it stands for and gives how much of it that took; 0 where it is no entity.
size_t unescape_at(std::string& out, std::string_view text) {
  if (text.starts_with('#')) {
    const bool hex = text.size() > 1 && (text[1] | 0x20) == 'x';
    size_t at = hex ? 2 : 1;
    uint64_t number = 0;
    const size_t first = at;
    for (; at < text.size() &&
           (hex ? std::isxdigit(static_cast<unsigned char>(text[at])) : std::isdigit(static_cast<unsigned char>(text[at])));
         ++at)
      number = std::min<uint64_t>(
          number * (hex ? 16 : 10) + static_cast<uint64_t>(text[at] <= '9' ? text[at] - '0' : (text[at] | 0x20) - 'a' + 10), 0x110000);
    if (at == first) return 0;
    append_numbered(out, number);
    return at + (at < text.size() && text[at] == ';');
  }
  size_t end = 0;
  for (; end < text.size() && count_code_points(text.substr(0, end)) < 32; ++end)
    if (std::string_view("\t\n\f <&#;").find(text[end]) != text.npos) break;
  const std::string_view name = text.substr(0, end);
  const bool closed = end < text.size() && text[end] == ';' && end > 0;
  if (const auto found = entities().find(name); closed && found != entities().end()) {
    append_utf8(out, found->second);
    return end + 1;
  }
  const bool word = !name.empty() && std::ranges::all_of(name, [](unsigned char c) { return std::isalnum(c); });
  if (closed && word) fail("UnsupportedError", fmt::format("striptags: the character &{}; is not known here, only those of Latin-1", name));
  for (size_t length = end; length > 1; --length)
    if (const auto found = entities().find(name.substr(0, length)); found != entities().end()) {
      append_utf8(out, found->second);
      return length;
    }
  return 0;
}

std::string unescape(const std::string& text) {
  std::string out;
  charge(static_cast<int64_t>(text.size() / 4));
  for (size_t at = 0; at < text.size();) {
    append(out, "");
    const size_t taken = text[at] == '&' ? unescape_at(out, std::string_view(text).substr(at + 1)) : 0;
    if (taken == 0) out += text[at];
    at += 1 + taken;
  }
  return out;
}

// As markupsafe does: comments and tags go in one pass, up to one that is not closed; runs of blanks are one; entities are characters.
Value f_striptags(Engine&, const Value& value, Args&) {
  const std::string text = to_text(value);
  charge(static_cast<int64_t>(text.size() / 8));
  std::string kept, out;
  size_t at = 0;
  for (size_t begin; (begin = text.find('<', at)) != text.npos;) {
    const bool comment = text.compare(begin, 4, "<!--") == 0;
    const size_t end = comment ? text.find("-->", begin + 4) : text.find('>', begin);
    if (end == text.npos) break;
    kept.append(text, at, begin - at);
    at = end + (comment ? 3 : 1);
  }
  kept.append(text, at);
  const std::vector<std::string_view> words = split_words(kept, INT64_MAX, false);
  for (size_t k = 0; k < words.size(); ++k) append(out, (k ? " " : "") + std::string(words[k]));
  return string(unescape(out));
}

Value f_xmlattr(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_xmlattr", args, {"autospace"});
  if (value.undefined()) fail_undefined(value);
  if (value.type != Type::Dict) fail("AttributeError", "'" + type_name(value) + "' object has no attribute 'items'");
  std::string out;
  for (const auto& [key, item] : as_dict(value).entries) {
    if (item.undefined() || item.type == Type::None) continue;
    if (!key.is_string()) fail("TypeError", "expected string or bytes-like object, got '" + type_name(key) + "'");
    if (key.text().find_first_of(" \t\n\r\f\v/>=") != std::string::npos)
      fail("ValueError", "Invalid character in attribute name: " + repr(key));
    append(out, fmt::format("{}{}=\"{}\"", out.empty() ? "" : " ", escaped(key), escaped(item)));
  }
  return string((!given(a[0]) || truthy(a[0])) && !out.empty() ? " " + out : out);
}

// An address of the web: with http:// or www. a host of any ending, without only one of the old endings; a port, a path.
const Pattern& web_address() {
  static const Pattern kPattern(
      R"( (?: (?: https?:// | www\. ) (?: [\w%-]+ \. )* (?: [a-z]{2,63} | xn--[\w%]{2,59} )
            | (?: [\w%-]{2,63} \. )+ (?: com | net | int | edu | gov | org | info | mil )
            | https?:// (?: \d{1,3} (?: \.\d{1,3} ){3} | \[ (?: [\da-f]{0,4} : ){2} (?: [\da-f]{0,4} :? ){1,6} \] ) )
          (?: : \d{1,5} )? (?: [/?\#] \S* )? $ )",
      Pattern::any_case | Pattern::anchored);
  return kPattern;
}

bool is_mail_address(std::string_view text) {
  static const Pattern kPattern(R"( \S+ @ \w [\w.-]* \. \w+ $ )", Pattern::anchored);
  return kPattern.find(text).has_value();
}

size_t count_of(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++count;
  return count;
}

// A word between blanks: brackets before it, the address, brackets and stops behind it.
struct Wrapped {
  std::string head, middle, tail;
};

Wrapped unwrap(std::string_view word) {
  size_t begin = 0, end = word.size();
  const auto at_begin = [&](std::string_view part) { return word.substr(begin, end - begin).starts_with(part); };
  const auto at_end = [&](std::string_view part) { return word.substr(begin, end - begin).ends_with(part); };
  for (bool more = true; more;) {
    more = at_begin("(") || at_begin("<") || at_begin("&lt;");
    if (more) begin += at_begin("&lt;") ? 4 : 1;
  }
  for (bool more = true; more;) {
    more = at_end(")") || at_end(">") || at_end(".") || at_end(",") || at_end("&gt;");
    if (more) end -= at_end("&gt;") ? 4 : 1;
  }
  Wrapped parts{std::string(word.substr(0, begin)), std::string(word.substr(begin, end - begin)), std::string(word.substr(end))};
  // A bracket that opens inside an address closes inside it.
  for (const auto& [open, close] : {std::pair<std::string_view, std::string_view>{"(", ")"}, {"<", ">"}, {"&lt;", "&gt;"}}) {
    const size_t opened = count_of(parts.middle, open);
    if (opened <= count_of(parts.middle, close)) continue;
    for (size_t left = std::min(opened, count_of(parts.tail, close)); left > 0; --left) {
      const size_t taken = parts.tail.find(close) + close.size();
      parts.middle += parts.tail.substr(0, taken);
      parts.tail.erase(0, taken);
    }
  }
  return parts;
}

struct LinkOptions {
  std::optional<int64_t> longest;
  std::string attributes;
  std::vector<std::string> schemes;
};

std::string shortened(const std::string& address, const LinkOptions& options) {
  if (!options.longest || count_code_points(address) <= *options.longest) return address;
  return slice(string(address), none(), integer(*options.longest), none()).text() + "...";
}

std::string linked(const std::string& address, const LinkOptions& options) {
  if (web_address().find(address)) {
    const bool whole = address.starts_with("https://") || address.starts_with("http://");
    return fmt::format("<a href=\"{}{}\"{}>{}</a>", whole ? "" : "https://", address, options.attributes, shortened(address, options));
  }
  if (address.starts_with("mailto:") && is_mail_address(std::string_view(address).substr(7)))
    return fmt::format("<a href=\"{}\">{}</a>", address, address.substr(7));
  if (address.find('@') != address.npos && !address.starts_with("www.") && !address.starts_with("@") && address.find(':') == address.npos &&
      is_mail_address(address))
    return fmt::format("<a href=\"mailto:{0}\">{0}</a>", address);
  std::string result = address;
  for (const std::string& scheme : options.schemes)
    if (result != scheme && result.starts_with(scheme)) result = fmt::format("<a href=\"{0}\"{1}>{0}</a>", result, options.attributes);
  return result;
}

Value f_urlize(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_urlize", args, {"trim_url_limit", "nofollow", "target", "rel", "extra_schemes"});
  LinkOptions options;
  if (!absent(a[0])) options.longest = as_integer(a[0]);
  std::set<std::string> relations = {"noopener"};
  if (truthy(a[1])) relations.insert("nofollow");
  const std::string given_relations = absent(a[3]) ? "" : to_text(a[3]);
  for (std::string_view relation : split_words(given_relations, INT64_MAX, false)) relations.emplace(relation);
  options.attributes = escape(fmt::format("{}", fmt::join(relations, " ")));
  options.attributes = " rel=\"" + options.attributes + "\"";
  if (!absent(a[2]) && truthy(a[2])) options.attributes += " target=\"" + escaped(a[2]) + "\"";
  static const Pattern kScheme(R"( [\w.+-]{2,} : /{0,2} $ )", Pattern::anchored), kBlanks(R"( \s+ )");
  if (!absent(a[4]))
    for (const Value& scheme : iterate(a[4])) {
      if (!kScheme.find(to_text(scheme))) fail("FilterArgumentError", repr(scheme) + " is not a valid URI scheme prefix.");
      options.schemes.push_back(to_text(scheme));
    }
  const std::string text = escaped(value);
  std::string out;
  for (size_t at = 0; at <= text.size();) {
    const auto blank = kBlanks.find(text, at);
    const Wrapped word = unwrap(std::string_view(text).substr(at, (blank ? blank->begin : text.size()) - at));
    append(out, word.head + linked(word.middle, options) + word.tail);
    if (!blank) break;
    append(out, std::string_view(text).substr(blank->begin, blank->end - blank->begin));
    at = blank->end;
  }
  return string(std::move(out));
}

struct WrapOptions {
  int64_t width = 79;
  bool cuts_words = true, cuts_at_hyphens = true;
};

struct Piece {
  std::string_view text;
  int64_t length;  // in characters
  bool blank() const { return strip(text, true, true).empty(); }
};
Piece piece_of(std::string_view text) { return {text, count_code_points(text)}; }

// What stays together on a line, blanks included: words, the parts of hyphenated ones, dashes.
std::vector<Piece> wrap_pieces(std::string_view line, bool at_hyphens) {
  // A part ends behind a hyphen with two letters (or a letter, a hyphen, a sign) before it and a letter behind; before a dash of two or
  // more.
  static const Pattern kParts(
      R"( [\t\n\x0b\f\r\x20]+ | (?<= [\w!"'&.,?] ) -{2,} (?= \w )
          | [^\t\n\x0b\f\r\x20]+? (?: - (?: (?<= [^\d\W]{2} - ) | (?<= [^\d\W] - [\w!"'&.,?] - ) ) (?= [^\d\W] -? [^\d\W] )
                                    | (?= [\t\n\x0b\f\r\x20] | $ ) | (?<= [\w!"'&.,?] ) (?= -{2,} \w ) ) )");
  static const Pattern kWords(R"( [\t\n\x0b\f\r\x20]+ | [^\t\n\x0b\f\r\x20]+ )");
  std::vector<Piece> pieces;
  for (size_t at = 0; at < line.size();) {
    const auto piece = (at_hyphens ? kParts : kWords).find(line, at);
    if (!piece) break;
    charge_bytes(2 * sizeof(Piece));
    if (piece->begin > at) pieces.push_back(piece_of(line.substr(at, piece->begin - at)));
    pieces.push_back(piece_of(line.substr(piece->begin, piece->end - piece->begin)));
    at = piece->end;
  }
  return pieces;
}

// Takes the first `space` characters of a piece that is too long for a line, or what ends with its last hyphen in there.
Piece cut_from(Piece& piece, int64_t space, bool at_hyphens) {
  size_t end = 0, hyphen = 0;  // in bytes; a hyphen with something else before it
  int64_t length = 0, behind_hyphen = 0;
  bool only_hyphens = true;
  for (; length < space && end < piece.text.size(); ++length) {
    if (piece.text[end] == '-' && !only_hyphens) hyphen = end + 1, behind_hyphen = length + 1;
    only_hyphens = only_hyphens && piece.text[end] == '-';
    end = code_point_end(piece.text, end);
  }
  if (at_hyphens && hyphen > 0) end = hyphen, length = behind_hyphen;
  const Piece head{piece.text.substr(0, end), length};
  piece = {piece.text.substr(end), piece.length - length};
  return head;
}

std::vector<std::string> wrapped_lines(std::string_view line, const WrapOptions& options) {
  if (options.width <= 0) fail("ValueError", fmt::format("invalid width {} (must be > 0)", options.width));
  std::vector<Piece> pieces = wrap_pieces(line, options.cuts_at_hyphens);
  std::vector<std::string> lines;
  std::reverse(pieces.begin(), pieces.end());
  while (!pieces.empty()) {
    charge(1);
    std::vector<Piece> current;
    int64_t length = 0;
    if (pieces.back().blank() && !lines.empty()) pieces.pop_back();
    for (; !pieces.empty() && length + pieces.back().length <= options.width; pieces.pop_back()) {
      length += pieces.back().length;
      current.push_back(pieces.back());
    }
    if (!pieces.empty() && pieces.back().length > options.width) {
      if (options.cuts_words) {  // no space left: an empty piece, which keeps a blank before it, as in Python
        current.push_back(cut_from(pieces.back(), options.width - length, options.cuts_at_hyphens));
      } else if (current.empty()) {
        current.push_back(pieces.back());
        pieces.pop_back();
      }
    }
    if (!current.empty() && current.back().blank()) current.pop_back();
    std::string whole;
    for (const Piece& piece : current) append(whole, piece.text);
    charge_bytes(static_cast<int64_t>(whole.size() + sizeof(std::string)));
    if (!current.empty()) lines.push_back(std::move(whole));
  }
  return lines;
}

Value f_wordwrap(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_wordwrap", args, {"width", "break_long_words", "wrapstring", "break_on_hyphens"});
  if (value.undefined()) fail_undefined(value);
  if (!value.is_string()) fail("AttributeError", "'" + type_name(value) + "' object has no attribute 'splitlines'");
  WrapOptions options;
  if (given(a[0])) options.width = as_integer(a[0]);
  if (given(a[1])) options.cuts_words = truthy(a[1]);
  if (given(a[3])) options.cuts_at_hyphens = truthy(a[3]);
  const std::string between = absent(a[2]) ? "\n" : to_text(a[2]);
  std::string out;
  bool first = true;
  for (std::string_view line : split_lines(value.text(), false)) {
    if (!first) append(out, between);
    first = false;
    const std::vector<std::string> lines = wrapped_lines(line, options);
    for (size_t k = 0; k < lines.size(); ++k) append(out, (k ? between : "") + lines[k]);
  }
  return string(std::move(out));
}

}  // namespace

const FilterTable& page_filters() {
  static const FilterTable kTable = {
      {"striptags", {f_striptags, false}}, {"urlize", {f_urlize, true}}, {"wordwrap", {f_wordwrap, true}}, {"xmlattr", {f_xmlattr, true}}};
  return kTable;
}

}  // namespace loraine::jinja
