// Answers of each protocol: a stream says what the whole says, in the order that its clients expect.
#include <gtest/gtest.h>

#include "loraine/serve/protocol/anthropic.h"
#include "loraine/serve/protocol/openai.h"
#include "loraine/serve/protocol/responses.h"

namespace loraine::answers_test {
namespace {

class NoTokens final : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view, bool, bool) const override { return {}; }
  std::string guard(std::string_view part) const override { return std::string(part); }
  std::vector<int32_t> encode_guarded(std::string_view) const override { return {}; }
  std::string decode(std::span<const int32_t>, bool) const override { return {}; }
  std::optional<int32_t> token_to_id(std::string_view) const override { return {}; }
  std::optional<std::string> id_to_token(int32_t) const override { return {}; }
  int64_t vocab_size() const override { return 0; }
  bool is_special(int32_t) const override { return false; }
  int32_t add_token(const std::string&, bool) override { return 0; }
};

AnswerPiece piece_of(const std::string& text, const std::string& reasoning = {}, std::vector<AnswerCall> calls = {}) {
  AnswerPiece piece;
  piece.text = text;
  piece.reasoning = reasoning;
  piece.calls = std::move(calls);
  return piece;
}

// The first call comes in pieces.
const std::vector<AnswerPiece>& cut_pieces() {
  static const std::vector<AnswerPiece> all = {
      piece_of("", "Let me see"), piece_of("Hello"), piece_of("", "", {{"call_1", "f", "", true, false}}),
      piece_of("", "", {{"", "", R"({"k")", false, false}}), piece_of("", "", {{"", "", ":1}", false, true}, {"call_2", "g", "{}"}})};
  return all;
}

// An answer that thinks, speaks and calls, as it comes.
const std::vector<AnswerPiece>& pieces() {
  static const std::vector<AnswerPiece> all = {piece_of("", "Let me"), piece_of("", " see"), piece_of("Hel"), piece_of("lo"),
                                               piece_of("", "", {{"call_1", "f", R"({"k":1})"}, {"call_2", "g", "{}"}})};
  return all;
}

AnswerState state_of() {
  AnswerState state;
  state.id = "resp_0123";
  state.model = "tiny";
  state.prompts.push_back({.ids = {1, 2, 3, 4}, .cached = 3});
  state.choices.emplace_back().tokens = 5;
  state.choices[0].reasoning_tokens = 2;
  return state;
}

void add(AnswerState& state, const AnswerPiece& piece) { state.choices[0].all.add(piece); }

struct Event {
  std::string name;
  WireJson data;
};

// As a client hears it: pieces one by one, or all at once.
std::vector<Event> streamed(AnswerForm& form, const std::vector<AnswerPiece>& list, const std::string& reason) {
  AnswerState state = state_of();
  std::string text = form.begin(state);
  for (const AnswerPiece& piece : list) {
    add(state, piece);
    text += form.piece(state, 0, piece);
  }
  state.choices[0].finish_reason = reason;
  text += form.choice_end(state, 0) + form.end(state);
  std::vector<Event> events;
  std::string name;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.starts_with("event: ")) name = line.substr(7);
    if (line.starts_with("data: {")) events.push_back({name, WireJson::parse(line.substr(6))});
  }
  return events;
}

WireJson whole_of(AnswerForm& form, const std::string& reason) {
  AnswerState state = state_of();
  for (const AnswerPiece& piece : pieces()) add(state, piece);
  state.choices[0].finish_reason = reason;
  return form.whole(state);
}

std::string names_of(const std::vector<Event>& events) {
  std::string names;
  for (const Event& event : events) names += event.name + " ";
  return names;
}

const NoTokens kTokens;

TEST(Answers, OfChat) {
  const auto whole = whole_of(*chat_form({}, kTokens), "tool_calls");
  const WireJson& message = whole["choices"][0]["message"];
  EXPECT_EQ(message["content"], "Hello");
  EXPECT_EQ(message["reasoning"], "Let me see");
  EXPECT_EQ(message["reasoning_content"], "Let me see");
  EXPECT_EQ(wire_text(message["tool_calls"]), R"([{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"k\":1}"}},)"
                                              R"({"id":"call_2","type":"function","function":{"name":"g","arguments":"{}"}}])");
  EXPECT_EQ(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
  EXPECT_EQ(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);
  EXPECT_EQ(whole["timings"]["cache_n"], 3);
  for (const auto& list : {pieces(), cut_pieces()}) {
    WireJson joined = {{"content", ""}, {"reasoning_content", ""}, {"tool_calls", WireJson::array()}};
    std::string last;
    for (const Event& event : streamed(*chat_form({}, kTokens), list, "tool_calls")) {
      const WireJson& choice = event.data["choices"][0];
      for (const char* key : {"content", "reasoning_content"})
        if (choice["delta"].contains(key)) joined[key] = joined[key].get<std::string>() + choice["delta"][key].get<std::string>();
      if (choice["delta"].contains("tool_calls"))
        for (const WireJson& call : choice["delta"]["tool_calls"]) {
          const size_t index = call["index"];
          if (call.contains("id")) {
            EXPECT_EQ(index, joined["tool_calls"].size());
            EXPECT_EQ(call["function"]["arguments"], "");
            joined["tool_calls"].push_back({{"id", call["id"]}, {"type", call["type"]}, {"function", call["function"]}});
          } else {
            WireJson& arguments = joined["tool_calls"][index]["function"]["arguments"];
            arguments = arguments.get<std::string>() + call["function"]["arguments"].get<std::string>();
          }
        }
      if (!choice["finish_reason"].is_null()) last = choice["finish_reason"];
    }
    EXPECT_EQ(joined["content"], message["content"]);
    EXPECT_EQ(joined["reasoning_content"], message["reasoning_content"]);
    EXPECT_EQ(joined["tool_calls"], message["tool_calls"]);
    EXPECT_EQ(last, "tool_calls");
  }
}

TEST(Answers, OfChatWithoutTextHaveContentThatIsNull) {
  AnswerState state = state_of();
  add(state, piece_of("", "", {{"call_1", "f", "{}"}}));
  state.choices[0].finish_reason = "tool_calls";
  const WireJson whole = chat_form({}, kTokens)->whole(state);
  EXPECT_TRUE(whole["choices"][0]["message"].contains("content"));
  EXPECT_TRUE(whole["choices"][0]["message"]["content"].is_null());
}

TEST(Answers, OfResponses) {
  WireJson kept;
  const auto form = response_form({}, {{"tools", WireJson::array()}}, kTokens, [&](const WireJson& one) { kept = one; });
  const auto events = streamed(*form, pieces(), "tool_calls");
  EXPECT_EQ(
      names_of(events),
      "response.created response.in_progress "
      "response.output_item.added response.content_part.added response.reasoning_text.delta response.reasoning_text.delta "
      "response.reasoning_text.done response.content_part.done response.output_item.done "
      "response.output_item.added response.content_part.added response.output_text.delta response.output_text.delta "
      "response.output_text.done response.content_part.done response.output_item.done "
      "response.output_item.added response.function_call_arguments.delta response.function_call_arguments.done response.output_item.done "
      "response.output_item.added response.function_call_arguments.delta response.function_call_arguments.done response.output_item.done "
      "response.completed ");
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].data["sequence_number"], i);
    EXPECT_EQ(events[i].data["type"], events[i].name);
  }
  const WireJson& last = events.back().data["response"];
  EXPECT_EQ(kept, last);
  EXPECT_EQ(last["status"], "completed");
  EXPECT_EQ(last["usage"]["input_tokens_details"]["cached_tokens"], 3);
  ASSERT_EQ(last["output"].size(), 4u);
  EXPECT_EQ(last["output"][0]["content"][0]["text"], "Let me see");
  EXPECT_EQ(last["output"][1]["content"][0]["text"], "Hello");
  EXPECT_EQ(last["output"][2]["arguments"], R"({"k":1})");
  EXPECT_EQ(whole_of(*response_form({}, {{"tools", WireJson::array()}}, kTokens, {}), "tool_calls")["output"], last["output"]);
  EXPECT_EQ(wire_text(message_of_response(last)),
            R"({"role":"assistant","content":"Hello","reasoning_content":"Let me see","tool_calls":[{"id":"call_1","type":"function",)"
            R"("function":{"name":"f","arguments":{"k":1}}},{"id":"call_2","type":"function","function":{"name":"g","arguments":{}}}]})");
  const auto in_pieces = streamed(*response_form({}, {{"tools", WireJson::array()}}, kTokens, {}), cut_pieces(), "tool_calls");
  EXPECT_EQ(in_pieces.back().data["response"]["output"], last["output"]);
  const WireJson cut = whole_of(*response_form({}, WireJson::object(), kTokens, {}), "length");
  EXPECT_EQ(cut["status"], "incomplete");
  EXPECT_EQ(cut["incomplete_details"]["reason"], "max_output_tokens");
}

TEST(Answers, OfAnthropic) {
  const auto events = streamed(*anthropic_form(), pieces(), "tool_calls");
  EXPECT_EQ(names_of(events),
            "message_start content_block_start content_block_delta content_block_delta content_block_delta content_block_stop "
            "content_block_start content_block_delta content_block_delta content_block_stop "
            "content_block_start content_block_delta content_block_stop content_block_start content_block_delta content_block_stop "
            "message_delta message_stop ");
  EXPECT_EQ(events[0].data["message"]["usage"]["input_tokens"], 1);
  EXPECT_EQ(events[0].data["message"]["usage"]["cache_read_input_tokens"], 3);
  EXPECT_EQ(events[4].data["delta"]["type"], "signature_delta");
  EXPECT_EQ(events[events.size() - 2].data["delta"]["stop_reason"], "tool_use");
  const WireJson whole = whole_of(*anthropic_form(), "tool_calls");
  ASSERT_EQ(whole["content"].size(), 4u);
  std::string inputs;
  for (const Event& event : streamed(*anthropic_form(), cut_pieces(), "tool_calls"))
    if (event.name == "content_block_delta" && event.data["delta"].contains("partial_json"))
      inputs += event.data["index"].dump() + event.data["delta"]["partial_json"].get<std::string>() + ";";
  EXPECT_EQ(inputs, R"(2{"k";2:1};3{};)");
  EXPECT_EQ(whole["content"][0]["thinking"], "Let me see");
  EXPECT_EQ(whole["content"][0]["signature"], events[4].data["delta"]["signature"]);
  EXPECT_EQ(whole["content"][1], (WireJson{{"type", "text"}, {"text", "Hello"}}));
  EXPECT_EQ(whole["content"][2]["input"], (WireJson{{"k", 1}}));
  EXPECT_EQ(whole["stop_reason"], "tool_use");
  AnswerState state = state_of();
  state.choices[0].finish_reason = "stop";
  state.choices[0].stop_reason = "END";
  const WireJson empty = anthropic_form()->whole(state);
  EXPECT_EQ(wire_text(empty["content"]), R"([{"type":"text","text":""}])");
  EXPECT_EQ(empty["stop_reason"], "stop_sequence");
  EXPECT_EQ(empty["stop_sequence"], "END");
}

TEST(Answers, ErrorsInEachForm) {
  const ApiError busy{503, "later", "", "loading", 1};
  EXPECT_EQ(error_response(busy, ErrorStyle::openai).status, 503);
  EXPECT_EQ(error_response(busy, ErrorStyle::anthropic).status, 529);
  EXPECT_EQ(wire_text(error_json(busy, ErrorStyle::anthropic)),
            R"({"type":"error","error":{"type":"overloaded_error","message":"later"}})");
  for (const auto& [status, type] : std::vector<std::pair<int, const char*>>{{400, "invalid_request_error"},
                                                                             {401, "authentication_error"},
                                                                             {403, "permission_error"},
                                                                             {404, "not_found_error"},
                                                                             {413, "request_too_large"},
                                                                             {429, "rate_limit_error"},
                                                                             {500, "api_error"}})
    EXPECT_EQ(error_json({status, "x"}, ErrorStyle::anthropic)["error"]["type"], type);
}

}  // namespace
}  // namespace loraine::answers_test
