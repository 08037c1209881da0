// Renderings of a short conversation whose texts are found again.
#include "loraine/data/templates/end_of_turn.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;

const char* const kQuestion = "Which word?";
const char* const kAnswer = "blueberry";  // stands nowhere else

std::optional<std::string> rendered(const ChatTemplate& chat, const OrderedJson& messages) {
  try {
    return chat.render_turns(messages, {{"add_generation_prompt", false}}).text;
  } catch (const Error&) {
    return std::nullopt;  // it takes no such conversation
  }
}

// Special tokens in what is written behind the last answer; none where it is not written itself.
std::optional<std::vector<int32_t>> behind_answer(const ChatTemplate& chat, const OrderedJson& messages, const Tokenizer& tokenizer,
                                                  std::optional<int32_t> eos) {
  const std::optional<std::string> text = rendered(chat, messages);
  const size_t at = text ? text->rfind(kAnswer) : std::string::npos;
  if (at == std::string::npos) return std::nullopt;
  std::vector<int32_t> ids = tokenizer.encode(std::string_view(*text).substr(at + std::string_view(kAnswer).size()));
  std::erase_if(ids, [&](int32_t id) { return !tokenizer.is_special(id) && id != eos; });
  return ids;
}

}  // namespace

EndOfTurn end_of_turn(const ChatTemplate& chat, const Tokenizer& tokenizer, std::optional<int32_t> eos) {
  EndOfTurn end;
  const auto add = [&](int32_t id) {
    if (std::find(end.stop.begin(), end.stop.end(), id) == end.stop.end()) end.stop.push_back(id);
  };
  OrderedJson talk = {{{"role", "user"}, {"content", kQuestion}}, {{"role", "assistant"}, {"content", kAnswer}}};
  const auto behind = behind_answer(chat, talk, tokenizer, eos);
  if (!behind) return end;
  talk.push_back({{"role", "user"}, {"content", kQuestion}});
  const auto next = behind_answer(chat, talk, tokenizer, eos).value_or(std::vector<int32_t>());
  end.missing = behind->empty();
  if (end.missing) {
    if (!next.empty()) add(next.front());
    return end;
  }
  // The last of those that stand there in the middle of a talk too: several may close an answer (Kimi-K3), and something may follow the
  // last one alone (Phi-3's <|endoftext|>). Where the two have nothing in common the last answer's counts (gpt-oss's <|return|>).
  const auto shared = std::mismatch(behind->begin(), behind->end(), next.begin(), next.end()).first;
  end.written = shared == behind->begin() ? behind->front() : *std::prev(shared);
  add(*end.written);
  const OrderedJson call = {
      {"type", "function"}, {"id", "call00000"}, {"function", {{"name", "look"}, {"arguments", {{"word", kAnswer}}}}}};
  const OrderedJson calling = {talk[0], {{"role", "assistant"}, {"content", ""}, {"tool_calls", OrderedJson::array({call})}}};
  const auto called = behind_answer(chat, calling, tokenizer, eos);
  if (called && !called->empty()) add(called->back());  // marks of the call itself come before its end
  return end;
}

}  // namespace loraine
