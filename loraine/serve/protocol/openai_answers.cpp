// See openai.h: the answers.
#include <fmt/format.h>

#include <cmath>

#include "loraine/serve/protocol/openai.h"

namespace loraine {
namespace {

// What JSON can carry of it: -inf has no number there.
double finite(float logprob) { return std::isfinite(logprob) ? static_cast<double>(logprob) : -9999.0; }

WireJson bytes_of(const std::string& text) {
  WireJson bytes = WireJson::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

WireJson usage_json(const AnswerState& answer) {
  return {{"prompt_tokens", answer.prompt_tokens()},
          {"completion_tokens", answer.answer_tokens()},
          {"total_tokens", answer.prompt_tokens() + answer.answer_tokens()},
          {"prompt_tokens_details", {{"cached_tokens", 0}}},
          {"completion_tokens_details", {{"reasoning_tokens", 0}}}};
}

WireJson timings_json(const AnswerState& answer) {
  const auto rate = [](int64_t tokens, double ms) { return ms > 0 ? static_cast<double>(tokens) / ms * 1e3 : 0.0; };
  const AnswerTimings& t = answer.timings;
  return {{"cache_n", 0},
          {"prompt_n", answer.prompt_tokens()},
          {"prompt_ms", t.prompt_ms},
          {"prompt_per_second", rate(answer.prompt_tokens(), t.prompt_ms)},
          {"predicted_n", answer.answer_tokens()},
          {"predicted_ms", t.predicted_ms},
          {"predicted_per_second", rate(answer.answer_tokens(), t.predicted_ms)}};
}

// vLLM's prompt_logprobs: null, then for each id of the prompt an object of ids.
WireJson prompt_logprobs_json(const PromptState& prompt, const Tokenizer& tokens) {
  WireJson list = WireJson::array({nullptr});
  for (const TokenLogprobs& one : prompt.logprobs) {
    WireJson place = WireJson::object();
    const auto add = [&](int32_t id, float logprob, int64_t rank) {
      place[std::to_string(id)] = {{"logprob", finite(logprob)}, {"rank", rank}, {"decoded_token", tokens.token_bytes(id)}};
    };
    int64_t rank = 0;
    for (const auto& [id, logprob] : one.top) add(id, logprob, ++rank);
    add(one.id, one.logprob, one.rank);
    list.push_back(std::move(place));
  }
  return list;
}

// What chat and completion have in common.
class OpenAiForm : public AnswerForm {
 public:
  OpenAiForm(const Asked& asked, const Tokenizer& tokens) : asked_(asked), tokens_(tokens) {}

  std::string end(const AnswerState& answer) const override {
    std::string out;
    if (asked_.include_usage) {
      WireJson last = chunk(answer);
      last["choices"] = WireJson::array();
      last["usage"] = usage_json(answer);
      last["timings"] = timings_json(answer);
      out = sse(last);
    }
    return out + "data: [DONE]\n\n";
  }
  std::string failure(const ApiError& error) const override { return sse(error_json(error, ErrorStyle::openai)); }

 protected:
  virtual const char* object(bool streams) const = 0;
  WireJson frame(const AnswerState& answer, bool streams) const {
    return {{"id", answer.id},
            {"object", object(streams)},
            {"created", answer.created},
            {"model", answer.model},
            {"system_fingerprint", answer.fingerprint}};
  }
  WireJson chunk(const AnswerState& answer) const { return frame(answer, true); }
  std::string chunk_of(const AnswerState& answer, WireJson choice) const {
    WireJson one = chunk(answer);
    one["choices"] = WireJson::array({std::move(choice)});
    if (asked_.include_usage || asked_.continuous_usage) one["usage"] = asked_.continuous_usage ? usage_json(answer) : WireJson();
    return sse(one);
  }
  void finish_whole(WireJson& whole, const AnswerState& answer) const {
    whole["usage"] = usage_json(answer);
    whole["timings"] = timings_json(answer);
  }
  bool tells() const { return asked_.options.logprobs >= 0; }
  const Asked asked_;
  const Tokenizer& tokens_;
};

class ChatForm : public OpenAiForm {
 public:
  using OpenAiForm::OpenAiForm;
  WireJson whole(const AnswerState& answer) const override {
    WireJson whole = frame(answer, false);
    whole["choices"] = WireJson::array();
    for (size_t i = 0; i < answer.choices.size(); ++i) {
      const ChoiceState& choice = answer.choices[i];
      WireJson one = {{"index", i},
                      {"message", {{"role", "assistant"}, {"content", choice.all.text}}},
                      {"logprobs", logprobs(choice.all)},
                      {"finish_reason", choice.finish_reason},
                      {"stop_reason", choice.stop_reason}};
      if (asked_.return_token_ids) one["token_ids"] = choice.all.ids;
      whole["choices"].push_back(std::move(one));
    }
    if (asked_.options.prompt_logprobs >= 0) whole["prompt_logprobs"] = prompt_logprobs_json(answer.prompts[0], tokens_);
    if (asked_.return_token_ids) whole["prompt_token_ids"] = answer.prompts[0].ids;
    finish_whole(whole, answer);
    return whole;
  }
  std::string begin(const AnswerState& answer) const override {
    std::string out;
    for (size_t i = 0; i < answer.choices.size(); ++i) {
      WireJson one = {{"index", i}, {"delta", {{"role", "assistant"}, {"content", ""}}}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
      if (asked_.return_token_ids) one["prompt_token_ids"] = answer.prompts[0].ids;
      out += chunk_of(answer, std::move(one));
    }
    return out;
  }
  std::string piece(const AnswerState& answer, size_t choice, const AnswerPiece& piece) const override {
    WireJson one = {{"index", choice}, {"delta", {{"content", piece.text}}}, {"logprobs", logprobs(piece)}, {"finish_reason", nullptr}};
    if (asked_.return_token_ids) one["token_ids"] = piece.ids;
    return chunk_of(answer, std::move(one));
  }
  std::string choice_end(const AnswerState& answer, size_t choice) const override {
    const ChoiceState& state = answer.choices[choice];
    return chunk_of(answer, {{"index", choice},
                             {"delta", WireJson::object()},
                             {"logprobs", nullptr},
                             {"finish_reason", state.finish_reason},
                             {"stop_reason", state.stop_reason}});
  }

 protected:
  const char* object(bool streams) const override { return streams ? "chat.completion.chunk" : "chat.completion"; }

 private:
  WireJson logprobs(const AnswerPiece& piece) const {
    if (!tells()) return nullptr;
    WireJson content = WireJson::array();
    const auto token = [&](int32_t id, float logprob) {
      const std::string text = tokens_.token_bytes(id);
      return WireJson{{"token", text}, {"logprob", finite(logprob)}, {"bytes", bytes_of(text)}};
    };
    for (const TokenLogprobs& one : piece.logprobs) {
      WireJson entry = token(one.id, one.logprob);
      entry["top_logprobs"] = WireJson::array();
      for (const auto& [id, logprob] : one.top) entry["top_logprobs"].push_back(token(id, logprob));
      content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}};
  }
};

class CompletionForm : public OpenAiForm {
 public:
  using OpenAiForm::OpenAiForm;
  WireJson whole(const AnswerState& answer) const override {
    WireJson whole = frame(answer, false);
    whole["choices"] = WireJson::array();
    for (size_t i = 0; i < answer.choices.size(); ++i) {
      const ChoiceState& choice = answer.choices[i];
      const PromptState& prompt = answer.prompts[choice.prompt];
      WireJson one = {{"index", i},
                      {"text", (asked_.echo ? prompt.text : "") + choice.all.text},
                      {"logprobs", tells() ? logprobs(choice.all, asked_.echo ? &prompt : nullptr, 0) : WireJson()},
                      {"finish_reason", choice.finish_reason},
                      {"stop_reason", choice.stop_reason}};
      if (asked_.return_token_ids) one["token_ids"] = choice.all.ids, one["prompt_token_ids"] = prompt.ids;
      if (asked_.options.prompt_logprobs >= 0) one["prompt_logprobs"] = prompt_logprobs_json(prompt, tokens_);
      whole["choices"].push_back(std::move(one));
    }
    finish_whole(whole, answer);
    return whole;
  }
  std::string begin(const AnswerState& answer) const override {
    std::string out;
    if (!asked_.echo) return out;
    for (size_t i = 0; i < answer.choices.size(); ++i)
      out += chunk_of(
          answer,
          {{"index", i}, {"text", answer.prompts[answer.choices[i].prompt].text}, {"logprobs", nullptr}, {"finish_reason", nullptr}});
    return out;
  }
  std::string piece(const AnswerState& answer, size_t choice, const AnswerPiece& piece) const override {
    const size_t before = answer.choices[choice].all.text.size() - piece.text.size();
    WireJson one = {{"index", choice},
                    {"text", piece.text},
                    {"logprobs", tells() ? logprobs(piece, nullptr, before) : WireJson()},
                    {"finish_reason", nullptr}};
    if (asked_.return_token_ids) one["token_ids"] = piece.ids;
    return chunk_of(answer, std::move(one));
  }
  std::string choice_end(const AnswerState& answer, size_t choice) const override {
    const ChoiceState& state = answer.choices[choice];
    return chunk_of(answer, {{"index", choice},
                             {"text", ""},
                             {"logprobs", nullptr},
                             {"finish_reason", state.finish_reason},
                             {"stop_reason", state.stop_reason}});
  }

 protected:
  const char* object(bool) const override { return "text_completion"; }

 private:
  // The old object: four lists, a place for each token. offset: of the first token's text.
  WireJson logprobs(const AnswerPiece& piece, const PromptState* prompt, size_t offset) const {
    WireJson names = WireJson::array(), values = WireJson::array(), tops = WireJson::array(), offsets = WireJson::array();
    const auto add = [&](int32_t id, const TokenLogprobs* told) {
      const std::string text = tokens_.token_bytes(id);
      names.push_back(text);
      offsets.push_back(offset);
      offset += text.size();
      values.push_back(told ? WireJson(finite(told->logprob)) : WireJson());
      if (!told) return tops.push_back(nullptr);
      WireJson top = WireJson::object();
      for (const auto& [other, logprob] : told->top) top[tokens_.token_bytes(other)] = finite(logprob);
      if (!told->top.empty()) top[text] = finite(told->logprob);
      tops.push_back(std::move(top));
    };
    for (size_t i = 0; prompt && i < prompt->ids.size(); ++i)
      add(prompt->ids[i], i > 0 && i <= prompt->logprobs.size() ? &prompt->logprobs[i - 1] : nullptr);
    for (const TokenLogprobs& one : piece.logprobs) add(one.id, &one);
    return {{"tokens", names}, {"token_logprobs", values}, {"top_logprobs", tops}, {"text_offset", offsets}};
  }
};

}  // namespace

int64_t AnswerState::prompt_tokens() const {
  int64_t count = 0;
  for (const PromptState& prompt : prompts) count += static_cast<int64_t>(prompt.ids.size());
  return count;
}

int64_t AnswerState::answer_tokens() const {
  int64_t count = 0;
  for (const ChoiceState& choice : choices) count += choice.tokens;
  return count;
}

std::string sse(const WireJson& value) { return "data: " + wire_text(value) + "\n\n"; }

std::unique_ptr<AnswerForm> chat_form(const Asked& asked, const Tokenizer& tokens) { return std::make_unique<ChatForm>(asked, tokens); }
std::unique_ptr<AnswerForm> completion_form(const Asked& asked, const Tokenizer& tokens) {
  return std::make_unique<CompletionForm>(asked, tokens);
}

}  // namespace loraine
