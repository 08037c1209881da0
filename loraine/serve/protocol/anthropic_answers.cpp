// See anthropic.h: the answers. A message is a list of blocks: thoughts, text, uses of tools; a stream tells of each as it comes.
#include <fmt/format.h>

#include "loraine/serve/protocol/anthropic.h"
#include "loraine/text/calls/tool_types.h"

namespace loraine {
namespace {

// What a thought is signed with: clients hand it back, and nobody here asks for it.
std::string signature(const std::string& thought) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const char c : thought) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return fmt::format("{:016x}", hash);
}

class AnthropicForm : public AnswerForm {
 public:
  WireJson whole(const AnswerState& answer) override {
    piece(answer, 0, answer.choices[0].all);  // as in a stream, but that nobody hears it
    choice_end(answer, 0);
    WireJson message = frame(answer);
    message["content"] = blocks_;
    message.update(stop_json(answer));
    message["usage"] = usage(answer);
    return message;
  }
  std::string begin(const AnswerState& answer) override {
    WireJson message = frame(answer);
    message["usage"]["output_tokens"] = 0;
    return event("message_start", {{"message", std::move(message)}});
  }
  std::string piece(const AnswerState&, size_t, const AnswerPiece& piece) override {
    std::string out;
    if (!piece.reasoning.empty()) out += add("thinking", "thinking_delta", piece.reasoning);
    if (!piece.text.empty()) out += add("text", "text_delta", piece.text);
    for (const AnswerCall& call : piece.calls) {
      if (call.begins) {
        out += open({{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", WireJson::object()}});
        input_.clear();
      }
      if (!call.arguments.empty()) out += delta({{"type", "input_json_delta"}, {"partial_json", call.arguments}});
      input_ += call.arguments;
      if (call.ends) out += close();
    }
    return out;
  }
  std::string choice_end(const AnswerState&, size_t) override {
    std::string out = close();
    if (!blocks_.empty()) return out;
    out = open({{"type", "text"}, {"text", ""}});
    out += close();
    return out;
  }
  std::string end(const AnswerState& answer) override {
    return event("message_delta", {{"delta", stop_json(answer)}, {"usage", usage(answer)}}) + event("message_stop", WireJson::object());
  }
  std::string failure(const ApiError& error) override { return named_sse("error", error_json(error, ErrorStyle::anthropic)); }
  const char* ping() const override { return "event: ping\ndata: {\"type\":\"ping\"}\n\n"; }

 private:
  static std::string event(const char* name, WireJson more) {
    WireJson value = {{"type", name}};
    value.update(more);
    return named_sse(name, value);
  }
  static WireJson usage(const AnswerState& answer) {
    return {{"input_tokens", answer.prompt_tokens() - answer.cached_tokens()},
            {"output_tokens", answer.answer_tokens()},
            {"cache_read_input_tokens", answer.cached_tokens()},
            {"cache_creation_input_tokens", 0}};
  }
  static WireJson frame(const AnswerState& answer) {
    return {{"id", answer.id},       {"type", "message"},      {"role", "assistant"},      {"content", WireJson::array()},
            {"model", answer.model}, {"stop_reason", nullptr}, {"stop_sequence", nullptr}, {"usage", usage(answer)}};
  }
  static WireJson stop_json(const AnswerState& answer) {
    const ChoiceState& choice = answer.choices[0];
    const bool by_text = choice.finish_reason == "stop" && choice.stop_reason.is_string();
    const char* reason = choice.finish_reason == "length"       ? "max_tokens"
                         : choice.finish_reason == "tool_calls" ? "tool_use"
                         : by_text                              ? "stop_sequence"
                                                                : "end_turn";
    return {{"stop_reason", reason}, {"stop_sequence", by_text ? choice.stop_reason : WireJson()}};
  }

  std::string delta(WireJson what) const {
    return event("content_block_delta", {{"index", blocks_.size() - 1}, {"delta", std::move(what)}});
  }
  std::string open(WireJson block) {
    std::string out = close();
    blocks_.push_back(std::move(block));
    open_ = true;
    return out + event("content_block_start", {{"index", blocks_.size() - 1}, {"content_block", blocks_.back()}});
  }
  std::string close() {
    if (!std::exchange(open_, false)) return {};
    WireJson& block = blocks_.back();
    std::string out;
    if (block["type"] == "thinking") {
      block["signature"] = signature(block["thinking"].get<std::string>());
      out = delta({{"type", "signature_delta"}, {"signature", block["signature"]}});
    } else if (block["type"] == "tool_use") {
      const WireJson input = json_within_limits(input_);
      if (input.is_object()) block["input"] = input;
    }
    return out + event("content_block_stop", {{"index", blocks_.size() - 1}});
  }
  // More of a thought or a text; its block begins where another is open.
  std::string add(const char* kind, const char* delta_type, const std::string& text) {
    std::string out;
    if (!open_ || blocks_.back()["type"] != kind) {
      WireJson block = {{"type", kind}, {kind, ""}};
      if (kind == std::string_view("thinking")) block["signature"] = "";
      out = open(std::move(block));
    }
    WireJson& so_far = blocks_.back()[kind];
    so_far = so_far.get_ref<const std::string&>() + text;
    return out + delta({{"type", delta_type}, {kind, text}});
  }

  WireJson blocks_ = WireJson::array();
  std::string input_;  // of the tool use that is open
  bool open_ = false;
};

}  // namespace

std::unique_ptr<AnswerForm> anthropic_form() { return std::make_unique<AnthropicForm>(); }

}  // namespace loraine
