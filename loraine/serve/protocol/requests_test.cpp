// Bodies of requests: what is read, what is refused and by which name; hostile ones quickly.
#include <gtest/gtest.h>

#include <ctime>

#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/openai.h"
#include "loraine/serve/service.h"
#include "tests/support/sanitized.h"

namespace loraine {
namespace {

constexpr int64_t kVocab = 100;

ApiError refusal_of(const std::string& body, bool completion = false, bool llama_factory = false) {
  const std::clock_t start = std::clock();  // of the processor: the machine may be busy
  ApiError error{0, ""};
  try {
    const WireJson json = parse_json_body(body);
    if (completion) read_completion(json, {}, kVocab, llama_factory, false);
    else read_chat(json, {}, kVocab, llama_factory, false);
  } catch (const ApiError& refused) { error = refused; }
  EXPECT_LT(std::clock() - start, (kSanitized ? 60 : 5) * CLOCKS_PER_SEC) << body.substr(0, 100);
  return error;
}

std::string chat_with(const std::string& more) { return R"({"messages":[{"role":"user","content":"hi"}],)" + more + "}"; }

TEST(JsonBody, OnlyOneCheckedValue) {
  for (const std::string& bad : {std::string(), std::string("{"), std::string("{} {}"), std::string("[1]"), std::string("{\"a\":\"\xff\"}"),
                                 std::string("{\"a\":1,\"a\":2}"), std::string("{\"b\":{\"a\":1,\"a\":2}}"), std::string("{\"a\":1e999}"),
                                 std::string("{\"a\":\"\\ud800\"}"), "{\"a\":" + std::string(65, '[') + std::string(65, ']') + "}",
                                 std::string(100000, '['), std::string("{\"a\":\x00}", 7)})
    EXPECT_EQ(refusal_of(bad).status, 400) << bad.substr(0, 60);
  EXPECT_EQ(parse_json_body("{\"a\":" + std::string(60, '[') + std::string(60, ']') + "}").size(), 1u);
  EXPECT_EQ(wire_text(parse_json_body(R"({"z":1,"a":-2.5,"n":null,"b":true,"u":18446744073709551615,"s":"é你"})")),
            R"({"z":1,"a":-2.5,"n":null,"b":true,"u":18446744073709551615,"s":"é你"})");
}

TEST(JsonBody, ManyKeysAndValuesTakeNoHour) {
  std::string keys = "{\"logit_bias\":{";
  for (int i = 0; i < 300000; ++i) keys += "\"" + std::to_string(i) + "\":1,";
  keys.back() = '}';
  EXPECT_EQ(refusal_of(keys + "}").status, 400);
  std::string values = "{\"prompt\":[";
  for (int i = 0; i < 3000000; ++i) values += "1,";
  values.back() = ']';
  EXPECT_EQ(refusal_of(values + "}", true).code, "invalid_json");
}

TEST(ChatRequest, RefusalsNameTheField) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({})", "messages"},
      {R"({"messages":[]})", "messages"},
      {R"({"messages":"hi"})", "messages"},
      {R"({"messages":[1]})", "messages[0]"},
      {R"({"messages":[{"role":"user","content":"a"},{"role":"wizard","content":"b"}]})", "messages[1]"},
      {R"({"messages":[{"role":"user","content":5}]})", "messages[0]"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]})", "messages[0]"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{}]}]})", "messages[0]"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}]})", "messages[0]"},
      {chat_with(R"("n":0)"), "n"},
      {chat_with(R"("n":17)"), "n"},
      {chat_with(R"("n":1.5)"), "n"},
      {chat_with(R"("n":true)"), "n"},
      {chat_with(R"("temperature":2.1)"), "temperature"},
      {chat_with(R"("temperature":"hot")"), "temperature"},
      {chat_with(R"("top_p":0)"), "top_p"},
      {chat_with(R"("top_k":-2)"), "top_k"},
      {chat_with(R"("min_p":1.1)"), "min_p"},
      {chat_with(R"("repetition_penalty":0)"), "repetition_penalty"},
      {chat_with(R"("frequency_penalty":3)"), "frequency_penalty"},
      {chat_with(R"("seed":1e30)"), "seed"},
      {chat_with(R"("max_tokens":0)"), "max_tokens"},
      {chat_with(R"("max_completion_tokens":-1)"), "max_completion_tokens"},
      {chat_with(R"("stop":"")"), "stop"},
      {chat_with(R"("stop":[1])"), "stop"},
      {chat_with(R"("stop":["a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a"])"), "stop"},
      {chat_with(R"("logit_bias":{"100":1})"), "logit_bias"},
      {chat_with(R"("logit_bias":{"-1":1})"), "logit_bias"},
      {chat_with(R"("logit_bias":{"1":101})"), "logit_bias"},
      {chat_with(R"("allowed_token_ids":[])"), "allowed_token_ids"},
      {chat_with(R"("allowed_token_ids":[100])"), "allowed_token_ids"},
      {chat_with(R"("stop_token_ids":[4294967297])"), "stop_token_ids"},
      {chat_with(R"("top_logprobs":5)"), "top_logprobs"},
      {chat_with(R"("logprobs":true,"top_logprobs":99)"), "top_logprobs"},
      {chat_with(R"("stream_options":{"include_usage":true})"), "stream_options"},
      {chat_with(R"("stream":true,"stream_options":{"include_usage":1})"), "stream_options.include_usage"},
      {chat_with(R"("continue_final_message":true,"add_generation_prompt":true)"), "continue_final_message"},
      {chat_with(R"("response_format":{"type":"json_object"})"), "response_format"},
      {chat_with(R"("tools":[{"type":"function","function":{"name":"f"}}])"), "tools"},
      {chat_with(R"("guided_regex":"a")"), "guided_regex"},
      {chat_with(R"("chat_template_kwargs":{"tools":[]})"), "chat_template_kwargs"},
      {chat_with(R"("min_tokens":5,"max_tokens":4)"), "min_tokens"},
  };
  for (const auto& [body, param] : cases) {
    const ApiError error = refusal_of(body);
    EXPECT_EQ(error.status, 400) << body;
    EXPECT_EQ(error.param, param) << body << "\n" << error.message;
  }
  EXPECT_EQ(refusal_of(chat_with(R"("chat_template":"{{ x }}")")).status, 403);
}

TEST(ChatRequest, ReadsWhatItSays) {
  const AskedChat chat = read_chat(
      parse_json_body(
          chat_with(R"("temperature":0,"top_k":-1,"stop":"x","n":2,"seed":-5,"logprobs":true,"top_logprobs":3,"logit_bias":{"7":-100},
      "user":"me","tools":[],"tool_choice":"auto","response_format":{"type":"text"},"enable_thinking":false,"who_knows":1,"max_tokens":7.0)")),
      {}, kVocab, false, false);
  const Asked& a = chat.asked;
  EXPECT_FALSE(a.options.do_sample);
  EXPECT_EQ(a.options.top_k, 0);
  EXPECT_EQ(a.stop, std::vector<std::string>{"x"});
  EXPECT_EQ(a.n, 2);
  EXPECT_EQ(a.seed, -5);
  EXPECT_EQ(a.max_tokens, 7);
  EXPECT_EQ(a.options.logprobs, 3);
  EXPECT_EQ(a.options.logit_bias, (std::vector<std::pair<int32_t, float>>{{7, -100.f}}));
  EXPECT_EQ(chat.kwargs["enable_thinking"], false);
  EXPECT_EQ(chat.ignored, "who_knows");
  EXPECT_EQ(refusal_of(chat_with(R"("who_knows":1)")).status, 0);
  EXPECT_THROW(read_chat(parse_json_body(chat_with(R"("who_knows":1)")), {}, kVocab, false, true), ApiError);
}

TEST(ChatRequest, MessagesArePlain) {
  const WireJson body =
      parse_json_body(R"({"messages":[{"role":"developer","content":"be brief"},{"role":"user","content":[{"type":"text","text":"a"},
    {"type":"text","text":"b"}],"name":"me","junk":1},{"role":"assistant","content":null,"tool_calls":[{"id":"x","type":"function",
    "function":{"name":"f","arguments":"{\"k\": [1]}"}}]},{"role":"function","content":"r"}]})");
  Fields fields(body);
  EXPECT_EQ(
      wire_text(read_messages(fields)),
      R"([{"role":"system","content":"be brief"},{"role":"user","content":"a\nb","name":"me"},)"
      R"({"role":"assistant","content":"","tool_calls":[{"id":"x","type":"function","function":{"name":"f","arguments":{"k":[1]}}}]},)"
      R"({"role":"tool","content":"r"}])");
}

TEST(ChatRequest, LlamaFactorysHabits) {
  EXPECT_EQ(refusal_of(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})", false, true).param,
            "messages");
  EXPECT_EQ(refusal_of(R"({"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]})", false, true).param, "messages[1]");
  const AskedChat chat = read_chat(parse_json_body(chat_with(R"("presence_penalty":1.2,"do_sample":false)")), {}, kVocab, true, false);
  EXPECT_EQ(chat.asked.options.repetition_penalty, 1.2);
  EXPECT_EQ(chat.asked.options.presence_penalty, 0);
  EXPECT_FALSE(chat.asked.options.do_sample);
}

TEST(CompletionRequest, Prompts) {
  for (const char* bad :
       {R"({})", R"({"prompt":[]})", R"({"prompt":{}})", R"({"prompt":[[]]})", R"({"prompt":[1,-1]})", R"({"prompt":[100]})",
        R"({"prompt":["a",[1]]})", R"({"prompt":[[1],"a"]})", R"({"prompt":[1,"a"]})", R"({"prompt":[1.5]})"})
    EXPECT_EQ(refusal_of(bad, true).param, "prompt") << bad;
  EXPECT_EQ(refusal_of(R"({"prompt":"a","max_tokens":0})", true).param, "max_tokens");
  EXPECT_EQ(refusal_of(R"({"prompt":"a","n":2,"best_of":3})", true).param, "best_of");
  EXPECT_EQ(refusal_of(R"({"prompt":"a","suffix":"b"})", true).param, "suffix");
  const AskedCompletion scored =
      read_completion(parse_json_body(R"({"prompt":[[1,2],[3]],"echo":true,"max_tokens":0,"logprobs":1})"), {}, kVocab, false, false);
  EXPECT_EQ(scored.ids, (std::vector<std::vector<int32_t>>{{1, 2}, {3}}));
  EXPECT_EQ(scored.asked.options.prompt_logprobs, 1);
  EXPECT_EQ(*scored.asked.max_tokens, 0);
  EXPECT_EQ(*read_completion(parse_json_body(R"({"prompt":["a","b"]})"), {}, kVocab, false, false).asked.max_tokens, 16);
}

}  // namespace
}  // namespace loraine
