// See responses.h: the answers. A response is a list of items: thoughts, a message, calls; a stream tells of each as it comes.
#include <fmt/format.h>

#include "loraine/serve/protocol/responses.h"
#include "loraine/serve/protocol/token_json.h"

namespace loraine {
namespace {

class ResponseForm : public AnswerForm {
 public:
  ResponseForm(const Asked& asked, WireJson settings, const Tokenizer& tokens, std::function<void(const WireJson&)> kept)
      : asked_(asked), settings_(std::move(settings)), tokens_(tokens), kept_(std::move(kept)) {}

  WireJson whole(const AnswerState& answer) override {
    piece(answer, 0, answer.choices[0].all);  // as in a stream, but that nobody hears it
    choice_end(answer, 0);
    return completed(answer);
  }
  std::string begin(const AnswerState& answer) override {
    const WireJson response = response_json(answer, "in_progress");
    std::string out = event("response.created", {{"response", response}});
    return out += event("response.in_progress", {{"response", response}});
  }
  std::string piece(const AnswerState& answer, size_t, const AnswerPiece& piece) override {
    std::string out;
    id_ = answer.id;
    if (!piece.reasoning.empty()) out += add_text(Open::thoughts, piece.reasoning, {});
    if (!piece.text.empty()) out += add_text(Open::message, piece.text, piece.logprobs);
    for (const AnswerCall& call : piece.calls) out += add_call(call);
    return out;
  }
  std::string choice_end(const AnswerState& answer, size_t) override {
    is_cut_ = answer.choices[0].finish_reason == "length";
    return close(is_cut_ ? "incomplete" : "completed");
  }
  std::string end(const AnswerState& answer) override {
    return event(is_cut_ ? "response.incomplete" : "response.completed", {{"response", completed(answer)}});
  }
  std::string failure(const ApiError& error) override {
    WireJson response = last_;
    response["status"] = "failed";
    response["error"] = {{"code", error.code.empty() ? "server_error" : error.code}, {"message", error.message}};
    return event("response.failed", {{"response", response}});
  }

 private:
  enum class Open : uint8_t { nothing, thoughts, message, call };

  std::string event(const char* name, WireJson more) {
    WireJson value = {{"type", name}, {"sequence_number", sequence_++}};
    value.update(more);
    return named_sse(name, value);
  }

  WireJson response_json(const AnswerState& answer, const char* status) {
    WireJson response = {{"id", answer.id},       {"object", "response"}, {"created_at", answer.created},
                         {"status", status},      {"error", nullptr},     {"incomplete_details", nullptr},
                         {"model", answer.model}, {"output", items_},     {"usage", nullptr}};
    response.update(settings_);
    return last_ = response;
  }
  WireJson completed(const AnswerState& answer) {
    WireJson response = response_json(answer, is_cut_ ? "incomplete" : "completed");
    if (is_cut_) response["incomplete_details"] = {{"reason", "max_output_tokens"}};
    else response["completed_at"] = answer.created;
    response["usage"] = {{"input_tokens", answer.prompt_tokens()},
                         {"input_tokens_details", {{"cached_tokens", answer.cached_tokens()}}},
                         {"output_tokens", answer.answer_tokens()},
                         {"output_tokens_details", {{"reasoning_tokens", answer.reasoning_tokens()}}},
                         {"total_tokens", answer.prompt_tokens() + answer.answer_tokens()}};
    if (kept_) kept_(response);
    return response;
  }

  // Where an event belongs: the item that is open, and its only part.
  WireJson at() const { return {{"item_id", items_.back()["id"]}, {"output_index", items_.size() - 1}}; }
  WireJson at_part() const {
    WireJson place = at();
    place["content_index"] = 0;
    return place;
  }
  static WireJson with(WireJson object, const WireJson& more) {
    object.update(more);
    return object;
  }
  std::string new_item(const char* prefix, const char* type, WireJson more) {
    items_.push_back(with({{"type", type},
                           {"id", fmt::format("{}_{}{:02x}", prefix, id_.substr(id_.find('_') + 1), items_.size())},
                           {"status", "in_progress"}},
                          more));
    return event("response.output_item.added", {{"output_index", items_.size() - 1}, {"item", items_.back()}});
  }

  WireJson part(const std::string& text) const {
    if (open_ == Open::thoughts) return {{"type", "reasoning_text"}, {"text", text}};
    WireJson part = {{"type", "output_text"}, {"text", text}, {"annotations", WireJson::array()}};
    part["logprobs"] = text.empty() ? WireJson::array() : logprobs_;
    return part;
  }

  std::string add_text(Open kind, const std::string& text, const std::vector<TokenLogprobs>& told) {
    std::string out;
    if (open_ != kind) {
      out += close("completed");
      open_ = kind;
      text_.clear();
      logprobs_ = WireJson::array();
      if (kind == Open::thoughts) out += new_item("rs", "reasoning", {{"summary", WireJson::array()}, {"content", WireJson::array()}});
      else out += new_item("msg", "message", {{"role", "assistant"}, {"content", WireJson::array()}});
      out += event("response.content_part.added", with(at_part(), {{"part", part("")}}));
    }
    text_ += text;
    WireJson delta = with(at_part(), {{"delta", text}});
    if (kind == Open::message) {
      delta["logprobs"] = asked_.options.logprobs >= 0 ? token_logprobs_json(told, tokens_) : WireJson::array();
      for (const WireJson& one : delta["logprobs"]) logprobs_.push_back(one);
    }
    return out + event(kind == Open::thoughts ? "response.reasoning_text.delta" : "response.output_text.delta", delta);
  }

  std::string close(const char* status) {
    if (open_ == Open::nothing) return {};
    if (open_ == Open::call) return end_call(status);
    const bool thoughts = open_ == Open::thoughts;
    WireJson done = with(at_part(), {{"text", text_}});
    if (!thoughts) done["logprobs"] = logprobs_;
    std::string out = event(thoughts ? "response.reasoning_text.done" : "response.output_text.done", done);
    out += event("response.content_part.done", with(at_part(), {{"part", part(text_)}}));
    items_.back()["content"].push_back(part(text_));
    open_ = Open::nothing;
    return out + item_done(status);
  }
  std::string item_done(const char* status) {
    items_.back()["status"] = status;
    return event("response.output_item.done", {{"output_index", items_.size() - 1}, {"item", items_.back()}});
  }

  std::string add_call(const AnswerCall& call) {
    std::string out;
    if (call.begins) {
      out = close("completed");
      out += new_item("fc", "function_call", {{"call_id", call.id}, {"name", call.name}, {"arguments", ""}});
      open_ = Open::call;
      text_.clear();
    }
    if (!call.arguments.empty()) out += event("response.function_call_arguments.delta", with(at(), {{"delta", call.arguments}}));
    text_ += call.arguments;
    return call.ends ? out + end_call("completed") : out;
  }
  std::string end_call(const char* status) {
    open_ = Open::nothing;
    items_.back()["arguments"] = text_;
    std::string out = event("response.function_call_arguments.done", with(at(), {{"name", items_.back()["name"]}, {"arguments", text_}}));
    return out += item_done(status);
  }

  const Asked asked_;
  const WireJson settings_;
  const Tokenizer& tokens_;
  const std::function<void(const WireJson&)> kept_;
  WireJson items_ = WireJson::array(), last_ = WireJson::object(), logprobs_ = WireJson::array();
  Open open_ = Open::nothing;
  std::string text_, id_;  // text_: of the open item, or its arguments
  int64_t sequence_ = 0;
  bool is_cut_ = false;
};

}  // namespace

std::unique_ptr<AnswerForm> response_form(const Asked& asked, WireJson settings, const Tokenizer& tokens,
                                          std::function<void(const WireJson& response)> kept) {
  return std::make_unique<ResponseForm>(asked, std::move(settings), tokens, std::move(kept));
}

}  // namespace loraine
