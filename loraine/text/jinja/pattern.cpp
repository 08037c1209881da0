// Over PCRE2.
#include "loraine/text/jinja/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "loraine/core/error.h"
#include "loraine/text/jinja/value.h"

namespace loraine::jinja {

struct Pattern::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* limits = nullptr;
};

Pattern::Pattern(const char* expression, int options) : code_(std::make_unique<Code>()) {
  int failed = 0;
  PCRE2_SIZE place = 0;
  uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_EXTENDED | PCRE2_DOLLAR_ENDONLY;
  if (options & any_case) flags |= PCRE2_CASELESS;
  if (options & anchored) flags |= PCRE2_ANCHORED;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression), PCRE2_ZERO_TERMINATED, flags, &failed, &place, nullptr);
  if (!code_->code) throw Error(ErrorKind::internal, std::string("a pattern that does not compile: ") + expression);
  code_->limits = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(code_->limits, 1'000'000);
  pcre2_set_depth_limit(code_->limits, 100'000);
}

Pattern::~Pattern() {
  pcre2_match_context_free(code_->limits);
  pcre2_code_free(code_->code);
}

std::optional<Pattern::Span> Pattern::find(std::string_view text, size_t from) const {
  pcre2_match_data* match = pcre2_match_data_create_from_pattern(code_->code, nullptr);
  const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                from == 0 ? 0 : PCRE2_NO_UTF_CHECK, match, code_->limits);
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match);
  const Span span{ends[0], ends[1]};
  pcre2_match_data_free(match);
  if (found == PCRE2_ERROR_NOMATCH) {
    charge(static_cast<int64_t>((text.size() - from) / 8 + 4));
    return std::nullopt;
  }
  if (found <= PCRE2_ERROR_UTF8_ERR1 && found >= PCRE2_ERROR_UTF8_ERR21) fail("UnicodeDecodeError", "a text that is not UTF-8");
  if (found < 0) fail("LimitError", "a filter's pattern takes too long on this text");
  charge(static_cast<int64_t>((span.end - from) / 8 + 4));
  return span;
}

}  // namespace loraine::jinja
