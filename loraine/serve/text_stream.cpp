// See text_stream.h.
#include "loraine/serve/text_stream.h"

#include <algorithm>

namespace loraine {

std::string StopStrings::push(std::string_view text) {
  if (stopped_by_) return {};
  held_ += text;
  size_t first = std::string::npos;
  const std::string* which = nullptr;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    // The one that is complete first; of those the longest.
    if (at == std::string::npos) continue;
    const size_t end = at + stop.size(), best = which ? first + which->size() : std::string::npos;
    if (!which || end < best || (end == best && at < first)) first = at, which = &stop;
  }
  if (which) {
    stopped_by_ = *which;
    std::string out = held_.substr(0, include_ ? first + which->size() : first);
    held_.clear();
    return out;
  }
  size_t hold = 0;  // the longest end that begins a stop string
  for (const std::string& stop : stops_) {
    const std::string_view all = held_;
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > hold; --n)
      if (stop.starts_with(all.substr(all.size() - n))) {
        hold = n;
        break;
      }
  }
  // Stop strings are whole UTF-8, so what is held begins at a code point: the cut falls between two.
  std::string out = held_.substr(0, held_.size() - hold);
  held_.erase(0, held_.size() - hold);
  return out;
}

std::string StopStrings::finish() {
  std::string out = std::move(held_);
  held_.clear();
  return out;
}

}  // namespace loraine
