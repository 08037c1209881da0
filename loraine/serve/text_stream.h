// The text of an answer up to its stop string, piece by piece. Used by answers in flight, behind a Detokenizer, which gives whole
// characters.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace loraine {

// Text in, text out, up to the first of the stop strings; what may be the beginning of one is held back.
class StopStrings {
 public:
  // include: the stop string itself belongs to the text.
  StopStrings(std::vector<std::string> stops, bool include) : stops_(std::move(stops)), include_(include) {}
  std::string push(std::string_view text);  // what is certain by now
  std::string finish();                     // the rest, when no more comes
  const std::optional<std::string>& stopped_by() const { return stopped_by_; }

 private:
  std::vector<std::string> stops_;
  bool include_;
  std::string held_;
  std::optional<std::string> stopped_by_;
};

}  // namespace loraine
