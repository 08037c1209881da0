// A regular expression over UTF-8 with Python's reading of \w, \s and \d, within the rendering's budget. Used by the filters.
#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

namespace loraine::jinja {

class Pattern {
 public:
  enum Option { none = 0, any_case = 1, anchored = 2 };  // anchored: it has to match at the place where it is looked for
  explicit Pattern(const char* expression, int options = none);
  ~Pattern();
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  struct Span {
    size_t begin, end;  // bytes
  };
  // The first match that begins at `from` or later; a text is looked through from its beginning on, where it is found to be UTF-8.
  // LimitError when it takes too long.
  std::optional<Span> find(std::string_view text, size_t from = 0) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace loraine::jinja
