// See ollama.h: the answers.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cmath>

#include "loraine/serve/protocol/ollama.h"
#include "loraine/text/calls/tool_types.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {
namespace {

std::string line(const WireJson& value) { return wire_text(value) + "\n"; }

int64_t nanoseconds(double ms) { return static_cast<int64_t>(std::llround(ms * 1e6)); }

class OllamaForm : public AnswerForm {
 public:
  OllamaForm(const OllamaRequest& request, bool generate, const Asked& asked, const Tokenizer& tokens,
             std::chrono::steady_clock::time_point began)
      : model_(request.model),
        generate_(generate),
        raw_(request.raw),
        logprobs_(request.logprobs),
        streams_(asked.stream),
        tokens_(tokens),
        began_(began) {}

  WireJson whole(const AnswerState& answer) override { return last(answer, answer.choices[0].all); }
  std::string piece(const AnswerState&, size_t, const AnswerPiece& piece) override {
    sent_.insert(sent_.end(), piece.ids.begin(), piece.ids.end());
    WireJson one = frame(piece);
    const bool empty = piece.text.empty() && piece.reasoning.empty() && piece.logprobs.empty();
    if (empty && !one["message"].contains("tool_calls")) return {};  // of a call that goes on
    one["done"] = false;
    return line(one);
  }
  std::string choice_end(const AnswerState&, size_t) override { return {}; }
  std::string end(const AnswerState& answer) override { return line(last(answer, {})); }
  std::string failure(const ApiError& error) override { return line(error_json(error, ErrorStyle::ollama)); }
  const char* content_type() const override { return "application/x-ndjson"; }
  const char* ping() const override { return ""; }

 private:
  WireJson frame(const AnswerPiece& piece) {
    WireJson one = {{"model", model_}, {"created_at", ollama_time(std::chrono::system_clock::now())}};
    if (generate_) one["response"] = piece.text;
    else one["message"] = {{"role", "assistant"}, {"content", piece.text}};
    if (!piece.reasoning.empty()) (generate_ ? one : one["message"])["thinking"] = piece.reasoning;
    if (WireJson calls = complete_calls(piece); !calls.empty()) one["message"]["tool_calls"] = std::move(calls);
    if (!logprobs_) return one;
    one["logprobs"] = WireJson::array();
    for (const TokenLogprobs& told : piece.logprobs) {
      WireJson token = named(told.id, told.logprob);
      token["top_logprobs"] = WireJson::array();
      for (const auto& [id, logprob] : told.top) token["top_logprobs"].push_back(named(id, logprob));
      one["logprobs"].push_back(std::move(token));
    }
    return one;
  }
  // Calls are told once they are complete.
  WireJson complete_calls(const AnswerPiece& piece) {
    WireJson calls = WireJson::array();
    for (const AnswerCall& call : piece.calls) {
      if (call.begins) open_ = {.name = call.name};
      open_.arguments += call.arguments;
      if (!call.ends) continue;
      const WireJson arguments = json_within_limits(open_.arguments);
      calls.push_back({{"function", {{"name", open_.name}, {"arguments", arguments.is_object() ? arguments : WireJson::object()}}}});
    }
    return calls;
  }
  WireJson named(int32_t id, float logprob) const {
    return {{"token", tokens_.token_bytes(id)}, {"logprob", std::isfinite(logprob) ? static_cast<double>(logprob) : -9999.0}};
  }
  WireJson last(const AnswerState& answer, const AnswerPiece& piece) {
    WireJson one = frame(piece);
    one["done"] = true;
    one["done_reason"] = answer.choices[0].finish_reason == "length" ? "length" : "stop";
    if (generate_ && !raw_) {
      std::vector<int32_t> context = answer.prompts[0].ids;
      const std::vector<int32_t>& said = streams_ ? sent_ : piece.ids;
      context.insert(context.end(), said.begin(), said.end());
      one["context"] = std::move(context);
    }
    one["total_duration"] = std::chrono::nanoseconds(std::chrono::steady_clock::now() - began_).count();
    one["load_duration"] = 0;
    one["prompt_eval_count"] = answer.prompt_tokens();
    one["prompt_eval_duration"] = nanoseconds(answer.timings.prompt_ms);
    one["eval_count"] = answer.answer_tokens();
    one["eval_duration"] = nanoseconds(answer.timings.predicted_ms);
    return one;
  }

  const std::string model_;
  const bool generate_, raw_, logprobs_, streams_;
  const Tokenizer& tokens_;
  const std::chrono::steady_clock::time_point began_;
  std::vector<int32_t> sent_;
  AnswerCall open_;  // a call of which a part has come
};

}  // namespace

std::string ollama_time(std::chrono::system_clock::time_point time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  const auto rest = std::chrono::duration_cast<std::chrono::nanoseconds>(time - whole).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:09}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(whole)), rest);
}

std::unique_ptr<AnswerForm> ollama_form(const OllamaRequest& request, bool generate, const Asked& asked, const Tokenizer& tokens,
                                        std::chrono::steady_clock::time_point began) {
  return std::make_unique<OllamaForm>(request, generate, asked, tokens, began);
}

WireJson ollama_loaded(const OllamaRequest& request, bool generate) {
  WireJson one = {{"model", request.model}, {"created_at", ollama_time(std::chrono::system_clock::now())}};
  if (generate) one["response"] = "";
  else one["message"] = {{"role", "assistant"}, {"content", ""}};
  one["done"] = true;
  one["done_reason"] = "load";
  return one;
}

}  // namespace loraine
