// See question.h.
#include "loraine/data/decisions/question.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace loraine {
namespace {

bool is_number_text(const std::string& text) { return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos; }

// Numbers that can be answered as they are.
bool answer_themselves(const std::vector<std::string>& shown) {
  return std::ranges::all_of(shown, [&](const std::string& one) { return is_number_text(one) && one.size() == shown.front().size(); });
}

}  // namespace

void label_choices(DecisionWording& wording) {
  wording.labels.clear();
  if (wording.kind == DecisionKind::yes_no) {
    wording.labels = {"yes", "no"};
    return;
  }
  const size_t count = wording.shown.size();
  const bool score = wording.kind == DecisionKind::score;
  if (score && answer_themselves(wording.shown)) {
    wording.labels = wording.shown;
    wording.shown.assign(count, "");
    return;
  }
  const size_t first = score ? 0 : 1, width = fmt::formatted_size("{}", score && count > 0 ? count - 1 : count);
  for (size_t i = 0; i < count; ++i)
    wording.labels.push_back(!score && count <= 26 ? std::string(1, static_cast<char>('A' + i)) : fmt::format("{:0{}}", i + first, width));
}

std::string decision_text(const DecisionWording& wording) {
  std::string text = wording.instructions;
  if (wording.kind == DecisionKind::yes_no) text += text.empty() ? "" : "\nIs this so?";
  for (size_t i = 0; i < wording.labels.size(); ++i)
    if (!wording.shown[i].empty()) text += fmt::format("\n{}: {}", wording.labels[i], wording.shown[i]);
  text += fmt::format("\nAnswer with one label only: {}.", fmt::join(wording.labels, ", "));
  return text;
}

}  // namespace loraine
