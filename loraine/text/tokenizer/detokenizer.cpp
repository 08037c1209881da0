// Detokenizer of tokenizer.h: decodes a window of the last ids, since a token's text may depend on the one before it.
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

static constexpr size_t kLongestWait = 64;  // tokens held back for an unfinished character; more cannot become one

std::string Detokenizer::push(int32_t id) {
  if (skip_ && tokenizer_.is_special(id)) return {};
  ids_.push_back(id);
  std::span<const int32_t> all(ids_);
  std::string before = tokenizer_.decode(all.subspan(prefix_, read_ - prefix_), skip_);
  std::string now = tokenizer_.decode(all.subspan(prefix_), skip_);
  bool unfinished = now.ends_with("\xEF\xBF\xBD") && ids_.size() - read_ < kLongestWait;
  if (unfinished || now.size() <= before.size()) return {};
  std::string text = now.substr(before.size());
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(read_));
  prefix_ = 0;
  read_ = ids_.size();
  return text;
}

std::string Detokenizer::finish() {
  std::span<const int32_t> all(ids_);
  std::string before = tokenizer_.decode(all.subspan(prefix_, read_ - prefix_), skip_);
  std::string now = tokenizer_.decode(all.subspan(prefix_), skip_);
  ids_.clear();
  prefix_ = read_ = 0;
  return now.size() > before.size() ? now.substr(before.size()) : std::string();
}

}  // namespace loraine
