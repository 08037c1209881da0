// See text_pattern.h. The files are written for Oniguruma; the few escapes that PCRE2 reads differently are spelled out first.
#include "loraine/text/text_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <cstring>

#include "loraine/text/unicode.h"

namespace loraine::tokens {

// \s as Oniguruma has it (White_Space); PCRE2's \s also holds U+180E. Both are the inside of a character class.
static constexpr std::string_view kSpaces = R"(\t-\r\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
static constexpr std::string_view kNotSpaces =
    R"(\x00-\x08\x0E-\x1F\x21-\x84\x86-\x9F\xA1-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
static constexpr std::string_view kWord = R"(\p{L}\p{M}\p{N}\p{Pc})";

struct TextPattern::Code {
  pcre2_code* code = nullptr;
  bool jit = false;
  ~Code() { pcre2_code_free(code); }
};

// Rewrites the escapes whose meaning differs; everything else is left as it is.
static std::string to_pcre(const std::string& source, const Place& place) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < source.size(); ++i) {
    char c = source[i];
    if (c == '\\' && i + 1 < source.size()) {
      char e = source[++i];
      std::string_view inside = e == 's' ? kSpaces : e == 'S' ? kNotSpaces : e == 'w' ? kWord : "";
      if (!inside.empty()) out += in_class ? std::string(inside) : fmt::format("[{}]", inside);
      else if (e == 'W' && !in_class) out += fmt::format("[^{}]", kWord);
      else if (e == 'h') out += in_class ? "0-9a-fA-F" : "[0-9a-fA-F]";
      else if (e == 'W' || e == 'H' || e == 'K' || e == 'C' || e == 'R' || e == 'X')
        fail_unknown(place, "regex escape", source.substr(i - 1, 2));
      else out += c, out += e;
      continue;
    }
    if (in_class && (c == '[' || (c == '&' && i + 1 < source.size() && source[i + 1] == '&')))
      if (c == '&' || i + 1 >= source.size() || source[i + 1] != ':') fail_unknown(place, "regex class operation", source.substr(i, 2));
    if (in_class && c == '[') {  // [:name:]
      size_t end = source.find(":]", i + 2);
      if (end == std::string::npos) fail_unknown(place, "regex class", source.substr(i));
      out += source.substr(i, end + 2 - i);
      i = end + 1;
      continue;
    }
    if (c == '[' && !in_class) {
      in_class = true;
      out += c;
      if (i + 1 < source.size() && source[i + 1] == '^') out += source[++i];
      if (i + 1 < source.size() && source[i + 1] == ']') out += source[++i];
      continue;
    }
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

TextPattern TextPattern::literal(std::string text) {
  TextPattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

TextPattern TextPattern::regex(const std::string& source, const Place& place) {
  if (source.size() > 65536) fail(place, fmt::format("regex of {} bytes is longer than 65536", source.size()));
  std::string rewritten = to_pcre(source, place);
  auto code = std::make_shared<Code>();
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
  TextPattern pattern;
  pattern.source_ = source;
  pattern.code_ = std::move(code);
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
  Matching matching(code_->code);
  auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(matching.data);
  bool last_empty = false;
  for (size_t at = 0; at <= text.size();) {
    uint32_t flags = last_empty ? PCRE2_NOTEMPTY_ATSTART : 0;
    int rc = code_->jit ? pcre2_jit_match(code_->code, subject, text.size(), at, flags, matching.data, matching.context)
                        : pcre2_match(code_->code, subject, text.size(), at, flags | PCRE2_NO_UTF_CHECK, matching.data, matching.context);
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
