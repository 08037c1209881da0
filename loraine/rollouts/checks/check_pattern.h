// Regular expressions of checks: PCRE2 with Unicode, which takes what Python's re takes and more. Called by the checks.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace loraine {

class CheckPattern {
 public:
  // usage naming `place` where it does not compile. whole: a match goes from the text's beginning to its end.
  CheckPattern(const std::string& pattern, bool ignore_case, bool whole, const std::string& place);
  ~CheckPattern();
  CheckPattern(const CheckPattern&) = delete;
  CheckPattern(CheckPattern&&) noexcept;
  // Its first group, or the whole match where the pattern has none (or where that group took no part); nothing without a match. Of a text
  // that is not UTF-8 the parts between bad bytes are looked at. usage where the search takes too long.
  std::optional<std::string> find(std::string_view text) const;
  std::optional<std::string> find_last(std::string_view text) const;  // of the last match

 private:
  struct Code;
  struct Found {
    size_t begin, end, taken_begin, taken_end;  // of the match, and of what is given back
  };
  std::optional<Found> at(std::string_view text, size_t from) const;
  std::unique_ptr<Code> code_;
  std::string place_;
};

}  // namespace loraine
