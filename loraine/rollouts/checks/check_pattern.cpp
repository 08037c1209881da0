// See check_pattern.h.
#include "loraine/rollouts/checks/check_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include "loraine/core/error.h"

namespace loraine {

struct CheckPattern::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* limits = nullptr;
  ~Code() {
    pcre2_match_context_free(limits);
    pcre2_code_free(code);
  }
};

CheckPattern::CheckPattern(const std::string& pattern, bool ignore_case, bool whole, const std::string& place)
    : code_(std::make_unique<Code>()), place_(place) {
  uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF;
  if (ignore_case) flags |= PCRE2_CASELESS;
  if (whole) flags |= PCRE2_ANCHORED | PCRE2_ENDANCHORED;
  int failed = 0;
  PCRE2_SIZE at = 0;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), flags, &failed, &at, nullptr);
  if (!code_->code) {
    PCRE2_UCHAR message[160] = {};
    pcre2_get_error_message(failed, message, sizeof message);
    throw Error(ErrorKind::usage,
                fmt::format("{}: '{}' is no regular expression: {}, at character {}", place, pattern.substr(0, 100),
                            reinterpret_cast<const char*>(message), at),
                "write it as for Python's re; in YAML between single quotes");
  }
  code_->limits = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(code_->limits, 10'000'000);
  pcre2_set_depth_limit(code_->limits, 100'000);
}

CheckPattern::~CheckPattern() = default;
CheckPattern::CheckPattern(CheckPattern&&) noexcept = default;

std::optional<CheckPattern::Found> CheckPattern::at(std::string_view text, size_t from) const {
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create_from_pattern(code_->code, nullptr), pcre2_match_data_free);
  const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, 0, match.get(), code_->limits);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0)
    throw Error(ErrorKind::usage, fmt::format("{}: the pattern takes too long on an answer of {} bytes", place_, text.size()),
                "write it without repetitions within repetitions");
  const PCRE2_SIZE* places = pcre2_get_ovector_pointer(match.get());
  const bool group = found > 1 && places[2] != PCRE2_UNSET;
  return Found{places[0], places[1], group ? places[2] : places[0], group ? places[3] : places[1]};
}

std::optional<std::string> CheckPattern::find(std::string_view text) const {
  const std::optional<Found> found = at(text, 0);
  if (!found) return std::nullopt;
  return std::string(text.substr(found->taken_begin, found->taken_end - found->taken_begin));
}

std::optional<std::string> CheckPattern::find_last(std::string_view text) const {
  std::optional<std::string> last;
  for (size_t from = 0; from <= text.size();) {
    const std::optional<Found> found = at(text, from);
    if (!found) break;
    last = std::string(text.substr(found->taken_begin, found->taken_end - found->taken_begin));
    from = found->end;
    if (found->end > found->begin) continue;
    for (++from; from < text.size() && (static_cast<unsigned char>(text[from]) & 0xc0) == 0x80;) ++from;  // behind the next character
  }
  return last;
}

}  // namespace loraine
