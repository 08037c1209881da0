// See pre_tokenizer.h.
#include "loraine/text/tokenizer/pre_tokenizer.h"

#include <functional>

#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens {

static constexpr const char* kByteLevelPattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

static SplitBehavior parse_behavior(const std::string& name, const Place& place) {
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  fail_unknown(place, "split behavior", name);
}

static PreTokenizer parse_metaspace(const JsonObject& object, const Place& place) {
  check_keys(object, {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"}, place);
  PreTokenizer out;
  out.kind = PreTokenizer::Kind::metaspace;
  out.replacement = get_string_or(object, "replacement", "\xE2\x96\x81", place);
  if (out.replacement.empty() || out.replacement.size() != char_bytes(static_cast<unsigned char>(out.replacement[0])))
    fail(place, "\"replacement\" is not one character");
  std::string scheme = get_string_or(object, "prepend_scheme", "always", place);
  if (scheme != "always" && scheme != "never" && scheme != "first") fail_unknown(place, "prepend_scheme", scheme);
  out.prepend = scheme == "always"  ? PreTokenizer::Prepend::always
                : scheme == "never" ? PreTokenizer::Prepend::never
                                    : PreTokenizer::Prepend::first;
  if (!get_bool_or(object, "add_prefix_space", true, place)) {  // older files
    if (has(object, "prepend_scheme") && scheme != "never")
      fail(place, "\"add_prefix_space\" is false but \"prepend_scheme\" is not \"never\"");
    out.prepend = PreTokenizer::Prepend::never;
  }
  out.use_pattern = get_bool_or(object, "split", true, place);
  out.pattern = TextPattern::literal(out.replacement);
  return out;
}

PreTokenizer parse_pre_tokenizer(const Json& value, const Place& place) {
  PreTokenizer out;
  if (value.is_null()) return out;
  JsonObject object = as_object(value, place);
  std::string type = get_string(object, "type", place);
  using Kind = PreTokenizer::Kind;
  if (type == "Sequence") {
    check_keys(object, {"type", "pretokenizers"}, place);
    out.kind = Kind::sequence;
    for (auto step : get_array(object, "pretokenizers", place)) out.steps.push_back(parse_pre_tokenizer(step, place.in("pretokenizers")));
  } else if (type == "Split") {
    check_keys(object, {"type", "pattern", "behavior", "invert"}, place);
    out.kind = Kind::split;
    out.pattern = TextPattern::from_json(get(object, "pattern", place), place.in("pattern"));
    out.scanner = known_pattern(out.pattern.regex_source());
    out.behavior = parse_behavior(get_string(object, "behavior", place), place);
    out.invert = get_bool_or(object, "invert", false, place);
  } else if (type == "ByteLevel") {
    check_keys(object, {"type", "add_prefix_space", "trim_offsets", "use_regex"}, place);
    out.kind = Kind::byte_level;
    out.add_prefix_space = get_bool_or(object, "add_prefix_space", true, place);
    out.use_pattern = get_bool_or(object, "use_regex", true, place);
    out.pattern = TextPattern::regex(kByteLevelPattern, place);
    out.scanner = known_pattern(kByteLevelPattern);
  } else if (type == "Metaspace") {
    return parse_metaspace(object, place);
  } else if (type == "Digits") {
    check_keys(object, {"type", "individual_digits"}, place);
    out.kind = Kind::digits;
    out.individual_digits = get_bool_or(object, "individual_digits", false, place);
  } else if (type == "Punctuation") {
    check_keys(object, {"type", "behavior"}, place);
    out.kind = Kind::punctuation;
    out.behavior = parse_behavior(get_string_or(object, "behavior", "Isolated", place), place);
  } else if (type == "WhitespaceSplit") {
    check_keys(object, {"type"}, place);
    out.kind = Kind::whitespace_split;
  } else if (type == "Whitespace") {
    check_keys(object, {"type"}, place);
    out.kind = Kind::split;
    out.pattern = TextPattern::regex(R"(\w+|[^\w\s]+)", place);
    out.behavior = SplitBehavior::removed;
    out.invert = true;
  } else if (type == "CharDelimiterSplit") {
    check_keys(object, {"type", "delimiter"}, place);
    out.kind = Kind::split;
    out.pattern = TextPattern::literal(get_string(object, "delimiter", place));
    out.behavior = SplitBehavior::removed;
  } else {
    fail_unknown(place, "pre_tokenizer", type);
  }
  return out;
}

namespace {

using Range = std::pair<size_t, size_t>;

// Turns matches within one word into the words that the behavior asks for. Parts arrive from left to right and cover the word.
struct Splitter {
  SplitBehavior behavior;
  std::vector<Range>& out;
  bool previous_match = false, open = false;  // open: the last range of out belongs to this word, so it may grow
  bool pending_match = false;                 // merged_with_next: a match at the end of out waits for the part after it

  void part(size_t begin, size_t end, bool match) {
    auto grow_or_push = [&](bool grow) {
      if (grow && open) out.back().second = end;
      else out.emplace_back(begin, end), open = true;
    };
    switch (behavior) {
      case SplitBehavior::isolated: out.emplace_back(begin, end); break;
      case SplitBehavior::removed:
        if (!match) out.emplace_back(begin, end);
        break;
      case SplitBehavior::contiguous: grow_or_push(match == previous_match); break;
      case SplitBehavior::merged_with_previous: grow_or_push(match && !previous_match); break;
      case SplitBehavior::merged_with_next: grow_or_push(pending_match && !match); break;
    }
    previous_match = match;
    pending_match = match;
  }
};

template <typename EachMatch>  // each_match(text, found)
void split_words(Words& words, SplitBehavior behavior, bool invert, const EachMatch& each_match) {
  std::vector<Range> out;
  out.reserve(words.ranges.size() + words.text.size() / 4);
  for (auto [first, last] : words.ranges) {
    Splitter splitter{behavior, out};
    size_t done = 0, size = last - first, base = first;
    each_match(std::string_view(words.text).substr(first, size), [&](size_t begin, size_t end) {
      if (begin > done) splitter.part(base + done, base + begin, invert);
      if (end > begin) splitter.part(base + begin, base + end, !invert);
      done = end;
    });
    if (done < size) splitter.part(base + done, last, invert);
  }
  words.ranges = std::move(out);
}

template <typename Test>
void split_chars(Words& words, SplitBehavior behavior, const Test& test) {
  split_words(words, behavior, false, [&](std::string_view text, const auto& found) {
    for (size_t at = 0; at < text.size();) {
      size_t begin = at;
      if (test(next_char(text, at))) found(begin, at);
    }
  });
}

void split_pattern(Words& words, const PreTokenizer& p, SplitBehavior behavior, bool invert) {
  if (p.scanner != WordPattern::none && behavior == SplitBehavior::isolated) {
    std::vector<Range> out;
    out.reserve(words.ranges.size() + words.text.size() / 4);
    for (auto [first, last] : words.ranges) scan_words(p.scanner, std::string_view(words.text).substr(0, last), first, out);
    words.ranges = std::move(out);
    return;
  }
  split_words(words, behavior, invert, [&](std::string_view text, const auto& found) { p.pattern.each_match(text, found); });
}

// Rewrites every word with rewrite(word, out), keeping the ranges in step.
template <typename Rewrite>
void rewrite_words(Words& words, const Rewrite& rewrite) {
  std::string out;
  out.reserve(words.text.size() + words.text.size() / 2 + 16);
  for (auto& [first, last] : words.ranges) {
    size_t begin = out.size();
    rewrite(std::string_view(words.text).substr(first, last - first), first, out);
    first = begin;
    last = out.size();
  }
  words.text = std::move(out);
}

void byte_level(const PreTokenizer& p, Words& words) {
  if (p.add_prefix_space)
    rewrite_words(words, [](std::string_view word, size_t, std::string& out) {
      if (!word.starts_with(' ')) out += ' ';
      out += word;
    });
  if (p.use_pattern) split_pattern(words, p, SplitBehavior::isolated, false);
  if (!p.leave_bytes) rewrite_words(words, [](std::string_view word, size_t, std::string& out) { append_printable(out, word); });
}

void metaspace(const PreTokenizer& p, Words& words, bool at_start) {
  bool first_word = at_start;
  rewrite_words(words, [&](std::string_view word, size_t, std::string& out) {
    bool starts = word.starts_with(p.replacement) || word.starts_with(' ');
    if (!starts && (p.prepend == PreTokenizer::Prepend::always || (p.prepend == PreTokenizer::Prepend::first && first_word)))
      out += p.replacement;
    first_word = false;
    for (char c : word) {
      if (c == ' ') out += p.replacement;
      else out += c;
    }
  });
  if (p.use_pattern) split_pattern(words, p, SplitBehavior::merged_with_next, false);
}

}  // namespace

bool ends_with_byte_level(const PreTokenizer& p) {
  if (p.kind == PreTokenizer::Kind::sequence) return !p.steps.empty() && ends_with_byte_level(p.steps.back());
  return p.kind == PreTokenizer::Kind::byte_level;
}

void leave_bytes(PreTokenizer& p) {
  if (p.kind == PreTokenizer::Kind::sequence) leave_bytes(p.steps.back());
  else p.leave_bytes = true;
}

void pre_tokenize(const PreTokenizer& p, Words& words, bool at_start) {
  switch (p.kind) {
    case PreTokenizer::Kind::none: break;
    case PreTokenizer::Kind::sequence:
      for (const PreTokenizer& step : p.steps) pre_tokenize(step, words, at_start);
      break;
    case PreTokenizer::Kind::split: split_pattern(words, p, p.behavior, p.invert); break;
    case PreTokenizer::Kind::byte_level: byte_level(p, words); break;
    case PreTokenizer::Kind::metaspace: metaspace(p, words, at_start); break;
    case PreTokenizer::Kind::digits:
      split_chars(words, p.individual_digits ? SplitBehavior::isolated : SplitBehavior::contiguous, is_numeric);
      break;
    case PreTokenizer::Kind::punctuation: split_chars(words, p.behavior, is_punctuation); break;
    case PreTokenizer::Kind::whitespace_split: split_chars(words, SplitBehavior::removed, is_space); break;
  }
}

}  // namespace loraine::tokens
