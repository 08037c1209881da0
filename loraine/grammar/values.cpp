// See values.h.
#include "loraine/grammar/values.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace loraine::grammar {
namespace {

constexpr int64_t kMostSpaces = 32;
constexpr int64_t kMostInteger = 999'999'999'999'999'999;  // 18 digits

Rules::Node digit(Rules& r, char first = '0', char last = '9') { return r.range(static_cast<uint8_t>(first), static_cast<uint8_t>(last)); }

// Numbers between two with as many digits.
Rules::Node between(Rules& r, std::string_view low, std::string_view high) {
  if (low.empty()) return r.nothing();
  const size_t rest = low.size() - 1;
  if (low[0] == high[0]) return r.sequence({r.literal(low.substr(0, 1)), between(r, low.substr(1), high.substr(1))});
  const std::string nines(rest, '9'), zeros(rest, '0');
  std::vector<Rules::Node> out;
  char first = low[0], last = high[0];
  if (low.substr(1) != zeros) out.push_back(r.sequence({r.literal(low.substr(0, 1)), between(r, low.substr(1), nines)})), ++first;
  if (high.substr(1) != nines) out.push_back(r.sequence({r.literal(high.substr(0, 1)), between(r, zeros, high.substr(1))})), --last;
  if (first <= last)
    out.push_back(r.sequence({digit(r, first, last), r.repeat(digit(r), static_cast<int64_t>(rest), static_cast<int64_t>(rest))}));
  return r.choice(std::move(out));
}

// low ≤ n ≤ high, both ≥ 0.
Rules::Node natural(Rules& r, uint64_t low, uint64_t high) {
  std::vector<Rules::Node> out;
  while (low <= high) {
    const std::string first = std::to_string(low);
    std::string last = std::string(first.size(), '9');
    if (std::to_string(high).size() == first.size()) last = std::to_string(high);
    out.push_back(between(r, first, last));
    if (last.size() >= 20) break;
    low = std::stoull(last) + 1;
    if (last == std::to_string(high)) break;
  }
  return r.choice(std::move(out));
}

bool is_control(char32_t c) { return c < 0x20; }

}  // namespace

Values::Values(Rules& rules, Spelling spelling, std::string quote) : rules_(rules), spelling_(spelling), quote_(std::move(quote)) {
  if (spelling == Spelling::gemma) {
    blank_ = rules.nothing();
    comma_ = rules.literal(",");
    return;
  }
  const Node body = rules.sequence({rules.optional(rules.literal("\n")), rules.repeat(rules.literal(" "), 0, kMostSpaces)});
  blank_ = rules.call(rules.add("blanks", body));
  comma_ = rules.sequence({rules.literal(","), blank_});
}

Values::Node Values::open(char bracket) const { return rules_.sequence({rules_.literal(std::string(1, bracket)), blank_}); }
Values::Node Values::close(char bracket) const { return rules_.sequence({blank_, rules_.literal(std::string(1, bracket))}); }

Rules::Rule Values::lazily(Rules::Rule& rule, const char* name, Node (Values::*body)() const) const {
  if (rule < 0) {
    rule = rules_.add(name);  // first, since it may call itself
    rules_.define(rule, (this->*body)());
  }
  return rule;
}

Values::Node Values::quote() const { return rules_.literal(spelling_ == Spelling::gemma ? quote_ : "\""); }

// A character of a text: as it is, or in an escape.
Values::Node Values::character_body() const {
  Rules& r = rules_;
  if (spelling_ == Spelling::gemma) return escaped({0, kLastCharacter});
  std::vector<Node> out{utf8_node(r, {0x20, '"' - 1}), utf8_node(r, {'"' + 1, '\\' - 1}), utf8_node(r, {'\\' + 1, kLastCharacter})};
  const Node hex = r.choice({digit(r), digit(r, 'a', 'f'), digit(r, 'A', 'F')});
  const auto one_of = [&](const char* letters) {
    std::vector<Node> nodes;
    for (const char* c = letters; *c; ++c) nodes.push_back(r.literal(std::string(1, *c)));
    return r.choice(std::move(nodes));
  };
  out.push_back(r.sequence({r.literal("\\"), one_of(spelling_ == Spelling::json ? "\"\\/bfnrt" : "\"\\'nrt")}));
  // \u of four digits, in JSON also of a surrogate pair
  const Node plain = r.sequence({one_of("0123456789abcefABCEF"), hex, hex, hex});
  const Node below = r.sequence({one_of("dD"), digit(r, '0', '7'), hex, hex});
  out.push_back(r.sequence({r.literal("\\u"), r.choice({plain, below})}));
  if (spelling_ == Spelling::json)
    out.push_back(r.sequence(
        {r.literal("\\u"), one_of("dD"), one_of("89abAB"), hex, hex, r.literal("\\u"), one_of("dD"), one_of("cdefCDEF"), hex, hex}));
  return r.choice(std::move(out));
}

Values::Node Values::text_body() const {
  Rules& r = rules_;
  if (spelling_ == Spelling::gemma) {
    if (quote_[0] == kSpecialOpen) return r.sequence({quote(), r.repeat(utf8_node(r, {0, kLastCharacter}), 0), quote()});
    return r.sequence({quote(), utf8_graph(r, up_to(quote_))});
  }
  const Node doubled = r.sequence({r.literal("\""), r.repeat(character_body(), 0), r.literal("\"")});
  if (spelling_ == Spelling::json) return doubled;
  const Node plain =
      r.choice({utf8_node(r, {0x20, '\'' - 1}), utf8_node(r, {'\'' + 1, '\\' - 1}), utf8_node(r, {'\\' + 1, kLastCharacter})});
  const Node escape = r.sequence(
      {r.literal("\\"), r.choice({r.literal("\""), r.literal("\\"), r.literal("'"), r.literal("n"), r.literal("r"), r.literal("t")})});
  return r.choice({doubled, r.sequence({r.literal("'"), r.repeat(r.choice({plain, escape}), 0), r.literal("'")})});
}

Values::Node Values::text() const { return rules_.call(lazily(text_, "text", &Values::text_body)); }

Values::Node Values::text(int64_t least, int64_t most) const {
  if (least == 0 && most < 0) return text();
  const Rules::Rule character = lazily(character_, "character", &Values::character_body);
  return rules_.sequence({quote(), rules_.call(rules_.counted("characters", character, least, most)), quote()});
}

Values::Node Values::escaped(CharacterRange range) const {
  Rules& r = rules_;
  if (spelling_ == Spelling::gemma) {
    if (quote_[0] == kSpecialOpen) return utf8_node(r, range);
    const char32_t first =
        characters_of(quote_)[0];  // where the quote is text, texts whose characters are given do not hold its first letter
    std::vector<Node> out;
    if (range.first < first) out.push_back(utf8_node(r, {range.first, std::min<char32_t>(range.last, first - 1)}));
    if (range.last > first) out.push_back(utf8_node(r, {std::max<char32_t>(range.first, first + 1), range.last}));
    return r.choice(std::move(out));
  }
  std::vector<Node> out;
  char32_t at = range.first;
  const auto plain = [&](char32_t last) {
    if (at <= last) out.push_back(utf8_node(r, {at, last}));
    at = last + 1;
  };
  for (; at <= range.last && is_control(at); ++at) {
    constexpr std::string_view kNamed = "\b\f\n\r\t", kNames = "bfnrt";
    const size_t name = kNamed.find(static_cast<char>(at));
    const bool named = name != std::string_view::npos && (spelling_ == Spelling::json || name > 1);
    out.push_back(r.literal(named ? std::string{'\\', kNames[name]} : fmt::format("\\u{:04x}", static_cast<uint32_t>(at))));
  }
  for (const char32_t c : {U'"', U'\\'})
    if (at <= c && c <= range.last) {
      if (c > 0) plain(c - 1);
      out.push_back(r.literal(std::string{'\\', static_cast<char>(c)}));
      at = c + 1;
    }
  plain(range.last);
  return r.choice(std::move(out));
}

Values::Node Values::text(const CharacterAutomaton& characters) const {
  return rules_.sequence({quote(), graph_of(rules_, characters, [&](CharacterRange range) { return escaped(range); }), quote()});
}

Values::Node Values::literal_text(std::string_view text) const {
  std::vector<Node> out{quote()};
  for (const char32_t c : characters_of(text)) out.push_back(escaped({c, c}));
  out.push_back(quote());
  return rules_.sequence(std::move(out));
}

Values::Node Values::integer(std::optional<int64_t> least, std::optional<int64_t> most) const {
  Rules& r = rules_;
  const int64_t low = least.value_or(most && *most < -kMostInteger ? std::numeric_limits<int64_t>::min() : -kMostInteger);
  const int64_t high = most.value_or(least && *least > kMostInteger ? std::numeric_limits<int64_t>::max() : kMostInteger);
  std::vector<Node> out;
  if (high >= 0 && low <= high) out.push_back(natural(r, static_cast<uint64_t>(std::max<int64_t>(low, 0)), static_cast<uint64_t>(high)));
  if (low < 0 && low <= high) {
    const auto size = [](int64_t n) { return n < 0 ? ~static_cast<uint64_t>(n) + 1 : static_cast<uint64_t>(n); };
    out.push_back(r.sequence({r.literal("-"), natural(r, high < 0 ? size(high) : 1, size(low))}));
  }
  return r.choice(std::move(out));
}

// What a double holds: at most 18 digits before the point, 17 behind it, two in the exponent.
Values::Node Values::number_body() const {
  Rules& r = rules_;
  const Node whole = r.choice({r.literal("0"), r.sequence({digit(r, '1', '9'), r.repeat(digit(r), 0, 17)})});
  const Node fraction = r.sequence({r.literal("."), r.repeat(digit(r), 1, 17)});
  const Node exponent = r.sequence(
      {r.choice({r.literal("e"), r.literal("E")}), r.optional(r.choice({r.literal("+"), r.literal("-")})), r.repeat(digit(r), 1, 2)});
  return r.sequence({r.optional(r.literal("-")), whole, r.optional(fraction), r.optional(exponent)});
}

Values::Node Values::number() const { return rules_.call(lazily(number_, "number", &Values::number_body)); }
Values::Node Values::boolean(bool value) const {
  if (spelling_ == Spelling::python) return rules_.literal(value ? "True" : "False");
  return rules_.literal(value ? "true" : "false");
}
Values::Node Values::null() const { return rules_.literal(spelling_ == Spelling::python ? "None" : "null"); }

Values::Node Values::key(std::string_view name) const {
  Rules& r = rules_;
  if (spelling_ == Spelling::gemma) return r.sequence({r.literal(name), r.literal(":")});
  return r.sequence({literal_text(name), r.literal(":"), blank_});
}

Values::Node Values::key(const CharacterAutomaton& names) const {
  Rules& r = rules_;
  if (spelling_ != Spelling::gemma) return r.sequence({text(names), r.literal(":"), blank_});
  static const CharacterAutomaton kBare = parse_regex("[A-Za-z_][A-Za-z0-9_]*");
  return r.sequence({utf8_graph(r, both(names, kBare)), r.literal(":")});
}

Values::Node Values::any_member() const {
  if (spelling_ == Spelling::gemma) return rules_.sequence({key(any_but({})), any()});
  return rules_.sequence({text(), rules_.literal(":"), blank_, any()});
}

Values::Node Values::any_object_body() const {
  Rules& r = rules_;
  const Node member = any_member();
  const Node members = r.sequence({member, r.repeat(r.sequence({comma_, member}), 0), close('}')});
  return r.sequence({open('{'), r.choice({r.literal("}"), members})});
}

Values::Node Values::any_object() const { return rules_.call(lazily(any_object_, "object", &Values::any_object_body)); }

Values::Node Values::any_body() const {
  Rules& r = rules_;
  const Node value = r.call(any_);
  const Node items = r.sequence({value, r.repeat(r.sequence({comma_, value}), 0), close(']')});
  return r.choice(
      {any_object(), r.sequence({open('['), r.choice({r.literal("]"), items})}), text(), number(), boolean(true), boolean(false), null()});
}

Values::Node Values::any() const { return rules_.call(lazily(any_, "value", &Values::any_body)); }

Values::Node Values::literal(const Json& value) const {
  Rules& r = rules_;
  if (value.is_string()) return literal_text(value.get_ref<const std::string&>());
  if (value.is_boolean()) return boolean(value.get<bool>());
  if (value.is_null()) return null();
  if (!value.is_structured()) return r.literal(value.dump());
  const char first = value.is_array() ? '[' : '{', last = value.is_array() ? ']' : '}';
  std::vector<Node> parts{open(first)};
  if (value.empty()) return r.sequence({parts[0], r.literal(std::string(1, last))});
  bool some = false;
  for (const auto& [name, item] : value.items()) {
    if (some) parts.push_back(comma_);
    some = true;
    if (value.is_object()) parts.push_back(key(name));
    parts.push_back(literal(item));
  }
  parts.push_back(close(last));
  return r.sequence(std::move(parts));
}

}  // namespace loraine::grammar
