// parse_regex of characters.h: a regular expression read into an automaton.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "loraine/grammar/characters.h"

namespace loraine::grammar {
namespace {

constexpr int kMostGroups = 200;
constexpr int64_t kMostRepeats = 10'000;
constexpr size_t kMostNfaStates = 200'000;
constexpr size_t kLongestPattern = 32 << 10;

using Ranges = std::vector<CharacterRange>;

// What was read, before it becomes an automaton.
struct Tree {
  enum class Kind : uint8_t { set, sequence, choice, repeat, begin, end } kind;
  Ranges set{};
  std::vector<Tree> parts{};
  int64_t least = 0, most = 0;  // repeat; most -1: any
};

Ranges normal(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Ranges out;
  for (const CharacterRange& range : ranges)
    if (!out.empty() && range.first <= out.back().last + 1) out.back().last = std::max(out.back().last, range.last);
    else out.push_back(range);
  return out;
}

Ranges others(Ranges ranges) {
  Ranges out;
  char32_t at = 0;
  for (const CharacterRange& range : normal(std::move(ranges))) {
    if (range.first > at) out.push_back({at, range.first - 1});
    at = range.last + 1;
  }
  if (at <= kLastCharacter) out.push_back({at, kLastCharacter});
  return out;
}

Ranges without_surrogates(const Ranges& ranges) {
  Ranges out;
  for (const CharacterRange& range : ranges) {
    if (range.first < 0xD800) out.push_back({range.first, std::min<char32_t>(range.last, 0xD7FF)});
    if (range.last > 0xDFFF) out.push_back({std::max<char32_t>(range.first, 0xE000), range.last});
  }
  return out;
}

const Ranges kDigits{{'0', '9'}}, kWord{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Ranges kSpace{{9, 13},          {32, 32},         {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
                    {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const Ranges kLineEnds{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern), text_(characters_of(pattern)) {}

  Tree parse() {
    Tree tree = alternatives(0);
    if (at_ < text_.size()) fail("a ) without its (");
    return tree;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw GrammarError("invalid_regex", "", fmt::format("the pattern `{}`: {} at character {}", pattern_.substr(0, 80), what, at_ + 1));
  }
  bool more() const { return at_ < text_.size(); }
  char32_t peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : 0; }
  bool take(char32_t c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  Tree alternatives(int depth) {
    if (depth > kMostGroups) fail("groups are nested too deeply");
    Tree out{Tree::Kind::choice};
    do out.parts.push_back(sequence(depth));
    while (take('|'));
    if (out.parts.size() > 1) return out;
    Tree only = std::move(out.parts[0]);
    return only;
  }

  Tree sequence(int depth) {
    Tree out{Tree::Kind::sequence};
    while (more() && peek() != '|' && peek() != ')') out.parts.push_back(repeated(atom(depth)));
    return out;
  }

  int64_t number() {
    int64_t n = 0;
    if (peek() < '0' || peek() > '9') fail("a number is missing");
    while (peek() >= '0' && peek() <= '9') {
      n = n * 10 + (text_[at_++] - '0');
      if (n > kMostRepeats)
        throw GrammarError("grammar_too_large", "", fmt::format("the pattern repeats a part more than {} times", kMostRepeats));
    }
    return n;
  }

  Tree repeated(Tree part) {
    for (;;) {
      int64_t least = 0, most = -1;
      if (take('*')) {
      } else if (take('+')) {
        least = 1;
      } else if (take('?')) {
        most = 1;
      } else if (peek() == '{' && counts_follow()) {
        ++at_;
        least = peek() == ',' ? 0 : number();
        most = take(',') ? (peek() == '}' ? -1 : number()) : least;
        if (!take('}')) fail("a } is missing");
        if (most >= 0 && most < least) fail("the numbers of a repetition are the wrong way round");
      } else {
        return part;
      }
      if (part.kind == Tree::Kind::begin || part.kind == Tree::Kind::end) fail("an anchor cannot be repeated");
      take('?');  // how much it prefers to take does not matter
      if (peek() == '+') fail("possessive repetitions are not supported");
      Tree out{Tree::Kind::repeat};
      out.least = least;
      out.most = most;
      out.parts.push_back(std::move(part));
      part = std::move(out);
      if (peek() != '*' && peek() != '+' && peek() != '?' && !(peek() == '{' && counts_follow())) return part;
      fail("a repetition is repeated");
    }
  }

  bool counts_follow() const {  // else { is a character as others
    size_t i = 1;
    while (peek(i) >= '0' && peek(i) <= '9') ++i;
    const bool first = i > 1;
    if (peek(i) == '}') return first;
    if (peek(i) != ',') return false;
    const size_t comma = i++;
    while (peek(i) >= '0' && peek(i) <= '9') ++i;
    return peek(i) == '}' && (first || i > comma + 1);
  }

  Tree atom(int depth) {
    const char32_t c = text_[at_++];
    Tree out{Tree::Kind::set};
    switch (c) {
      case '^': return {Tree::Kind::begin};
      case '$': return {Tree::Kind::end};
      case '.': out.set = without_surrogates(others(kLineEnds)); return out;
      case '[': out.set = set(); return out;
      case '(': return group(depth);
      case '*':
      case '+':
      case '?': --at_; fail("there is nothing to repeat");
      case '\\': out.set = without_surrogates(escape(false)); return out;
      default: out.set = {{c, c}}; return out;
    }
  }

  Tree group(int depth) {
    if (take('?')) {
      const bool python = peek() == 'P' && peek(1) == '<';
      if (python) ++at_;
      if (take(':')) {
      } else if (peek() == '<' && peek(1) != '=' && peek(1) != '!') {
        ++at_;
        while (more() && peek() != '>') ++at_;
        if (!take('>')) fail("the name of a group has no end");
      } else {
        fail("look-around, flags and conditions are not regular and not supported");
      }
    }
    Tree inner = alternatives(depth + 1);
    if (!take(')')) fail("a ) is missing");
    return inner;
  }

  char32_t hex(size_t digits) {
    char32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char32_t c = peek();
      if (c >= '0' && c <= '9') value = value * 16 + (c - '0');
      else if ((c | 32) >= 'a' && (c | 32) <= 'f') value = value * 16 + ((c | 32) - 'a' + 10);
      else fail(fmt::format("{} hexadecimal digits are expected", digits));
      ++at_;
    }
    return value;
  }

  Ranges escape(bool in_set) {
    if (!more()) fail("a \\ with nothing behind it");
    const char32_t c = text_[at_++];
    const auto one = [](char32_t x) { return Ranges{{x, x}}; };
    switch (c) {
      case 'd': return kDigits;
      case 'D': return others(kDigits);
      case 'w': return kWord;
      case 'W': return others(kWord);
      case 's': return kSpace;
      case 'S': return others(kSpace);
      case 'n': return one('\n');
      case 'r': return one('\r');
      case 't': return one('\t');
      case 'f': return one('\f');
      case 'v': return one('\v');
      case 'a': return one('\a');
      case '0':
        if (peek() >= '0' && peek() <= '9') fail("octal numbers are not supported");
        return one(0);
      case 'b':
        if (in_set) return one('\b');
        fail("\\b is not supported: what it looks at is no part of the text");
      case 'x': return one(hex(2));
      case 'u': {
        if (take('{')) {
          char32_t value = 0;
          size_t digits = 0;
          for (; peek() != '}' && digits < 6; ++digits) value = value * 16 + hex(1);
          if (digits == 0 || !take('}')) fail("\\u{} holds one to six hexadecimal digits");
          if (value > kLastCharacter) fail("there is no such character");
          return one(value);
        }
        const char32_t high = hex(4);
        if (high < 0xD800 || high > 0xDBFF || peek() != '\\' || peek(1) != 'u') return one(high);
        at_ += 2;
        const char32_t low = hex(4);
        if (low < 0xDC00 || low > 0xDFFF) fail("half a surrogate pair");
        return one(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
      }
      default: break;
    }
    if (c >= '1' && c <= '9') fail("back references are not regular and not supported");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) fail(fmt::format("\\{} is not supported", static_cast<char>(c)));
    return one(c);
  }

  Ranges set() {
    const bool negated = take('^');
    Ranges out;
    for (bool first = true;; first = false) {
      if (!more()) fail("a ] is missing");
      if (peek() == ']' && !first) break;
      if (peek() == ']' && first) {  // ECMA: nothing, or anything; Python: the character
        fail("an empty set of characters");
      }
      Ranges low = set_item();
      const bool single = low.size() == 1 && low[0].first == low[0].last;
      if (peek() == '-' && peek(1) != ']' && at_ + 1 < text_.size()) {
        ++at_;
        const Ranges high = set_item();
        if (!single || high.size() != 1 || high[0].first != high[0].last || high[0].first < low[0].first)
          fail("a range of characters has no order");
        low[0].last = high[0].first;
      }
      out.insert(out.end(), low.begin(), low.end());
    }
    ++at_;
    return without_surrogates(negated ? others(std::move(out)) : normal(std::move(out)));
  }
  Ranges set_item() {
    if (take('\\')) return escape(true);
    const char32_t c = text_[at_++];
    return {{c, c}};
  }

  std::string_view pattern_;
  std::vector<char32_t> text_;
  size_t at_ = 0;
};

// Anchors at the ends of the whole text say nothing; where else they stand is not known to be an end.
void drop_anchors(Tree& tree, bool at_begin, bool at_end) {
  switch (tree.kind) {
    case Tree::Kind::begin:
    case Tree::Kind::end:
      if (tree.kind == Tree::Kind::begin ? !at_begin : !at_end)
        throw GrammarError("invalid_regex", "", "an anchor inside a pattern is not supported: ^ stands at its beginning, $ at its end");
      tree = {Tree::Kind::sequence};
      return;
    case Tree::Kind::choice:
      for (Tree& part : tree.parts) drop_anchors(part, at_begin, at_end);
      return;
    case Tree::Kind::sequence: {
      const auto anchor = [](const Tree& t) { return t.kind == Tree::Kind::begin || t.kind == Tree::Kind::end; };
      size_t first = 0, last = tree.parts.size();
      while (first < last && anchor(tree.parts[first]) && tree.parts[first].kind == Tree::Kind::begin) ++first;
      while (last > first && anchor(tree.parts[last - 1]) && tree.parts[last - 1].kind == Tree::Kind::end) --last;
      for (size_t i = 0; i < tree.parts.size(); ++i) drop_anchors(tree.parts[i], at_begin && i <= first, at_end && i + 1 >= last);
      return;
    }
    case Tree::Kind::repeat:
      for (Tree& part : tree.parts) drop_anchors(part, at_begin && tree.most == 1, at_end && tree.most == 1);
      return;
    case Tree::Kind::set: return;
  }
}

class NfaBuilder {
 public:
  CharacterNfa run(const Tree& tree) {
    nfa_.first = add();
    nfa_.last = add();
    build(tree, nfa_.first, nfa_.last);
    return std::move(nfa_);
  }

 private:
  int32_t add() {
    if (nfa_.states.size() >= kMostNfaStates)
      throw GrammarError("grammar_too_large", "", "the pattern is too large; use smaller repetitions");
    nfa_.states.emplace_back();
    return static_cast<int32_t>(nfa_.states.size() - 1);
  }
  void skip(int32_t from, int32_t to) { nfa_.states[static_cast<size_t>(from)].empty.push_back(to); }

  void build(const Tree& tree, int32_t from, int32_t to) {
    switch (tree.kind) {
      case Tree::Kind::set:
        for (const CharacterRange& range : tree.set) nfa_.states[static_cast<size_t>(from)].edges.push_back({range, to});
        return;
      case Tree::Kind::sequence:
        for (const Tree& part : tree.parts) {
          const int32_t next = add();
          build(part, from, next);
          from = next;
        }
        skip(from, to);
        return;
      case Tree::Kind::choice:
        for (const Tree& part : tree.parts) {
          const int32_t first = add();
          skip(from, first);
          build(part, first, to);
        }
        return;
      case Tree::Kind::repeat:
        for (int64_t i = 0; i < tree.least; ++i) {
          const int32_t next = add();
          build(tree.parts[0], from, next);
          from = next;
        }
        if (tree.most < 0) {
          const int32_t loop = add(), back = add();
          skip(from, loop);
          build(tree.parts[0], loop, back);
          skip(back, loop);
          skip(loop, to);
          return;
        }
        for (int64_t i = tree.least; i < tree.most; ++i) {
          skip(from, to);
          const int32_t next = add();
          build(tree.parts[0], from, next);
          from = next;
        }
        skip(from, to);
        return;
      case Tree::Kind::begin:
      case Tree::Kind::end: skip(from, to); return;
    }
  }
  CharacterNfa nfa_;
};

}  // namespace

CharacterAutomaton parse_regex(std::string_view pattern) {
  if (pattern.size() > kLongestPattern)
    throw GrammarError("grammar_too_large", "",
                       fmt::format("the pattern has {} bytes, at most {} are taken", pattern.size(), kLongestPattern));
  Tree tree = Parser(pattern).parse();
  drop_anchors(tree, true, true);
  return determined(NfaBuilder().run(tree));
}

}  // namespace loraine::grammar
