// See text_pattern.h. The files are written for Oniguruma; the few escapes that PCRE2 reads differently are spelled out first.
#include "loraine/text/tokenizer/text_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokens {

// \s as Oniguruma has it (White_Space); PCRE2's \s also holds U+180E. Both are the inside of a character class.
static constexpr std::string_view kSpaces = R"(\t-\r\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
static constexpr std::string_view kNotSpaces =
    R"(\x00-\x08\x0E-\x1F\x21-\x84\x86-\x9F\xA1-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
static constexpr std::string_view kWord = R"(\p{L}\p{M}\p{N}\p{Pc})";

// Letters, numbers, marks and punctuation of Unicode 15 and 16, which the tables of older PCRE2 lack (Debian 12: Unicode 14).
static constexpr std::string_view kNewLetters =
    R"(\x{1C89}-\x{1C8A}\x{A7CB}-\x{A7CD}\x{A7DA}-\x{A7DC}\x{105C0}-\x{105F3}\x{10D4A}-\x{10D65}\x{10D6F}-\x{10D85}\x{10EC2}-\x{10EC4}\x{1123F}-\x{11240}\x{11380}-\x{11389}\x{1138B}\x{1138E}\x{11390}-\x{113B5}\x{113B7}\x{113D1}\x{113D3}\x{11BC0}-\x{11BE0}\x{11F02}\x{11F04}-\x{11F10}\x{11F12}-\x{11F33}\x{1342F}\x{13441}-\x{13446}\x{13460}-\x{143FA}\x{16100}-\x{1611D}\x{16D40}-\x{16D6C}\x{18CFF}\x{1B132}\x{1B155}\x{1DF25}-\x{1DF2A}\x{1E030}-\x{1E06D}\x{1E4D0}-\x{1E4EB}\x{1E5D0}-\x{1E5ED}\x{1E5F0}\x{2B739}\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF})";
static constexpr std::string_view kNewNumbers =
    R"(\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9}\x{11F50}-\x{11F59}\x{16130}-\x{16139}\x{16D70}-\x{16D79}\x{1CCF0}-\x{1CCF9}\x{1D2C0}-\x{1D2D3}\x{1E4F0}-\x{1E4F9}\x{1E5F1}-\x{1E5FA})";
static constexpr std::string_view kNewMarks =
    R"(\x{897}\x{CF3}\x{ECE}\x{10D69}-\x{10D6D}\x{10EFC}-\x{10EFF}\x{11241}\x{113B8}-\x{113C0}\x{113C2}\x{113C5}\x{113C7}-\x{113CA}\x{113CC}-\x{113D0}\x{113D2}\x{113E1}-\x{113E2}\x{11F00}-\x{11F01}\x{11F03}\x{11F34}-\x{11F3A}\x{11F3E}-\x{11F42}\x{11F5A}\x{13440}\x{13447}-\x{13455}\x{1611E}-\x{1612F}\x{1E08F}\x{1E4EC}-\x{1E4EF}\x{1E5EE}-\x{1E5EF})";
static constexpr std::string_view kNewPunctuation =
    R"(\x{1B4E}-\x{1B4F}\x{1B7F}\x{10D6E}\x{113D4}-\x{113D5}\x{113D7}-\x{113D8}\x{11B00}-\x{11B09}\x{11BE1}\x{11F43}-\x{11F4F}\x{16D6D}-\x{16D6F}\x{1E5FF})";

std::string_view characters_older_tables_lack(char category) {
  return category == 'L'   ? kNewLetters
         : category == 'N' ? kNewNumbers
         : category == 'M' ? kNewMarks
         : category == 'P' ? kNewPunctuation
                           : "";
}

// False for nearly every text: it has none of those, so the shorter, faster expression serves.
static bool may_hold_new_characters(std::string_view text) {
  for (size_t i = 0; i + 2 < text.size(); ++i) {
    auto first = static_cast<unsigned char>(text[i]), second = static_cast<unsigned char>(text[i + 1]);
    if (first < 0xE0) continue;
    if (first >= 0xF0 ? first > 0xF0 || second != 0x9F
                      : (first == 0xE0 && (second == 0xA2 || second == 0xB3 || second == 0xBB)) ||
                            (first == 0xE1 && (second == 0xB2 || second == 0xAD)) || (first == 0xEA && second == 0x9F))
      return true;
  }
  return false;
}

struct TextPattern::Code {
  pcre2_code* code = nullptr;
  bool jit = false;
  ~Code() { pcre2_code_free(code); }
};

// Scripts that files name: PCRE2 takes a bare name for "one of the character's script extensions".
static constexpr std::string_view kScripts[] = {"Han",    "Hiragana", "Katakana", "Hangul", "Bopomofo", "Latin",   "Greek",     "Cyrillic",
                                                "Arabic", "Hebrew",   "Thai",     "Lao",    "Khmer",    "Tibetan", "Devanagari"};

// Rewrites the escapes whose meaning differs, and classes within classes and their intersections, which PCRE2 has not; everything else is
// left as it is. wide: also name the characters that older tables lack.
class PatternRewriter {
 public:
  PatternRewriter(std::string_view source, bool wide, const Place& place) : source_(source), wide_(wide), place_(place) {}

  std::string rewrite() {
    std::string out;
    while (at_ < source_.size()) {
      if (source_[at_] == '\\' && at_ + 1 < source_.size()) out += escape(false);
      else if (source_[at_] == '[') out += char_class(0);
      else out += source_[at_++];
    }
    return out;
  }

 private:
  std::string escape(bool in_class) {
    const char e = source_[at_ + 1];
    std::string_view name;  // of \p{name}
    if ((e == 'p' || e == 'P') && source_.substr(at_ + 2, 1) == "{") name = source_.substr(at_ + 3, source_.find('}', at_) - at_ - 3);
    const std::string_view extra = wide_ && name.size() == 1 ? characters_older_tables_lack(name[0]) : "";
    if (!extra.empty() && (e == 'p' || !in_class)) {
      at_ += 5;
      const std::string members = fmt::format("\\p{{{}}}{}", name, extra);
      return in_class ? members : fmt::format("[{}{}]", e == 'P' ? "^" : "", members);
    }
    if (std::find(std::begin(kScripts), std::end(kScripts), name) != std::end(kScripts)) {
      at_ += 4 + name.size();
      return fmt::format("\\{}{{sc:{}}}", e, name);
    }
    const std::string_view whole = source_.substr(at_, 2);
    at_ += 2;
    const std::string_view inside = e == 's' ? kSpaces : e == 'S' ? kNotSpaces : e == 'w' ? kWord : "";
    if (!inside.empty()) return in_class ? std::string(inside) : fmt::format("[{}]", inside);
    if (e == 'W' && !in_class) return fmt::format("[^{}]", kWord);
    if (e == 'h') return in_class ? "0-9a-fA-F" : "[0-9a-fA-F]";
    if (e == 'W' || e == 'H' || e == 'K' || e == 'C' || e == 'R' || e == 'X') fail_unknown(place_, "regex escape", whole);
    return std::string(whole);
  }

  // One operand of &&: characters, and classes within.
  struct Members {
    std::string plain;
    std::vector<std::string> classes;

    std::string expression() const {
      std::string out = plain.empty() ? "" : "[" + plain + "]";
      for (const std::string& one : classes) out += (out.empty() ? "" : "|") + one;
      return "(?:" + out + ")";
    }
  };

  std::string char_class(int depth) {
    const size_t begin = at_++;
    if (depth > kMaxDepth) fail_unknown(place_, "regex class", source_.substr(begin));
    const bool negated = source_.substr(at_, 1) == "^";
    if (negated) ++at_;
    std::vector<Members> operands(1);
    if (source_.substr(at_, 1) == "]") operands[0].plain += source_[at_++];
    for (;;) {
      Members& members = operands.back();
      if (at_ >= source_.size()) fail_unknown(place_, "regex class", source_.substr(begin));
      const std::string_view two = source_.substr(at_, 2);
      if (two[0] == ']') break;
      if (two == "[:") {
        const size_t end = source_.find(":]", at_ + 2);
        if (end == std::string::npos) fail_unknown(place_, "regex class", source_.substr(at_));
        members.plain += source_.substr(at_, end + 2 - at_);
        at_ = end + 2;
      } else if (two[0] == '[') {
        members.classes.push_back(char_class(depth + 1));
      } else if (two == "&&") {
        operands.emplace_back();
        at_ += 2;
      } else if (two[0] == '\\' && two.size() == 2) {
        members.plain += escape(true);
      } else {
        if (two[0] == '^' && members.plain.empty()) members.plain += '\\';
        members.plain += source_[at_++];
      }
    }
    ++at_;
    if (operands.size() == 1 && operands[0].classes.empty()) return (negated ? "[^" : "[") + operands[0].plain + "]";
    std::string all;
    for (const Members& members : operands) {
      if (members.plain.empty() && members.classes.empty()) fail_unknown(place_, "regex class", source_.substr(begin, at_ - begin));
      all += &members == &operands.back() ? members.expression() : "(?=" + members.expression() + ")";
    }
    return negated ? "(?:(?!" + all + ")(?s:.))" : "(?:" + all + ")";
  }

  std::string_view source_;
  bool wide_;
  const Place& place_;
  size_t at_ = 0;
};

TextPattern TextPattern::literal(std::string text) {
  TextPattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

static std::shared_ptr<const TextPattern::Code> compile(const std::string& source, const std::string& rewritten, const Place& place) {
  auto code = std::make_shared<TextPattern::Code>();
  int number = 0;
  PCRE2_SIZE offset = 0;
  std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(pcre2_compile_context_create(nullptr),
                                                                                        pcre2_compile_context_free);
  if (!context) throw Error(ErrorKind::out_of_memory, "no memory for a regex");
  pcre2_set_parens_nest_limit(context.get(), 100);
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten.data()), rewritten.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &number, &offset, context.get());
  if (!code->code) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(number, message, sizeof message);
    fail(place, fmt::format("regex \"{}\" does not compile: {}", source.substr(0, 200), reinterpret_cast<const char*>(message)));
  }
  code->jit = pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE) == 0;
  return code;
}

TextPattern TextPattern::regex(const std::string& source, const Place& place) {
  if (source.size() > 65536) fail(place, fmt::format("regex of {} bytes is longer than 65536", source.size()));
  TextPattern pattern;
  pattern.source_ = source;
  const std::string narrow = PatternRewriter(source, false, place).rewrite(), wide = PatternRewriter(source, true, place).rewrite();
  pattern.code_ = compile(source, narrow, place);
  if (wide != narrow) pattern.wide_code_ = compile(source, wide, place);
  return pattern;
}

TextPattern TextPattern::from_json(const Json& value, const Place& place) {
  JsonObject object = as_object(value, place);
  check_keys(object, {"String", "Regex"}, place);
  if (has(object, "Regex")) return regex(get_string(object, "Regex", place), place);
  return literal(get_string(object, "String", place));
}

namespace {
// What one run over a text needs: the result block, the limits, and a JIT stack only once the small default one was too small.
struct Matching {
  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack = nullptr;
  explicit Matching(const pcre2_code* code)
      : data(pcre2_match_data_create_from_pattern(code, nullptr)), context(pcre2_match_context_create(nullptr)) {
    if (!data || !context) throw Error(ErrorKind::out_of_memory, "no memory for matching a regex");
    pcre2_set_match_limit(context, 50'000'000);
    pcre2_set_heap_limit(context, 256 * 1024);  // KiB
  }
  ~Matching() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};
}  // namespace

void TextPattern::each_match(std::string_view text, const std::function<void(size_t, size_t)>& found) const {
  if (!code_) {
    if (literal_.empty()) return;
    for (size_t at = text.find(literal_); at != std::string_view::npos; at = text.find(literal_, at + literal_.size()))
      found(at, at + literal_.size());
    return;
  }
  const Code* code = wide_code_ && may_hold_new_characters(text) ? wide_code_.get() : code_.get();
  Matching matching(code->code);
  auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(matching.data);
  bool last_empty = false;
  for (size_t at = 0; at <= text.size();) {
    uint32_t flags = last_empty ? PCRE2_NOTEMPTY_ATSTART : 0;
    int rc = code->jit ? pcre2_jit_match(code->code, subject, text.size(), at, flags, matching.data, matching.context)
                       : pcre2_match(code->code, subject, text.size(), at, flags | PCRE2_NO_UTF_CHECK, matching.data, matching.context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !matching.stack) {
      matching.stack = pcre2_jit_stack_create(32 * 1024, 64 * 1024 * 1024, nullptr);
      if (!matching.stack) throw Error(ErrorKind::out_of_memory, "no memory for matching a regex");
      pcre2_jit_stack_assign(matching.context, nullptr, matching.stack);
      continue;
    }
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0)
      throw Error(ErrorKind::bad_data, fmt::format("the tokenizer's regex \"{}\" gave up on a text of {} bytes (PCRE2 error {})",
                                                   source_.substr(0, 80), text.size(), rc));
    size_t begin = range[0], end = range[1];
    if (begin > end || end > text.size())
      throw Error(ErrorKind::bad_data, fmt::format("the tokenizer's regex \"{}\" matches backwards", source_));
    found(begin, end);
    last_empty = begin == end;
    at = end;
  }
}

}  // namespace loraine::tokens
