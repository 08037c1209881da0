// See answer_form.h.
#include "loraine/serve/protocol/answer_form.h"

#include <algorithm>

namespace loraine {

void AnswerPiece::add(const AnswerPiece& more) {
  text += more.text;
  reasoning += more.reasoning;
  for (const AnswerCall& call : more.calls) {
    if (call.begins || calls.empty()) {
      calls.push_back(call);
    } else {
      calls.back().arguments += call.arguments;
      calls.back().ends = call.ends;
    }
  }
}

size_t AnswerPiece::begun_calls() const {
  return static_cast<size_t>(std::ranges::count_if(calls, [](const AnswerCall& call) { return call.begins; }));
}

int64_t AnswerState::prompt_tokens() const {
  int64_t count = 0;
  for (const PromptState& prompt : prompts) count += static_cast<int64_t>(prompt.ids.size());
  return count;
}

int64_t AnswerState::cached_tokens() const {
  int64_t count = 0;
  for (const PromptState& prompt : prompts) count += prompt.cached;
  return count;
}

int64_t AnswerState::answer_tokens() const {
  int64_t count = 0;
  for (const ChoiceState& choice : choices) count += choice.tokens;
  return count;
}

int64_t AnswerState::reasoning_tokens() const {
  int64_t count = 0;
  for (const ChoiceState& choice : choices) count += choice.reasoning_tokens;
  return count;
}

std::string sse(const WireJson& value) { return "data: " + wire_text(value) + "\n\n"; }

std::string named_sse(const std::string& event, const WireJson& value) { return "event: " + event + "\n" + sse(value); }

}  // namespace loraine
