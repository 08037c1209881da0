// Bodies of requests: what is read, what is refused and by which name; hostile ones quickly.
#include <gtest/gtest.h>

#include <ctime>

#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/openai.h"
#include "loraine/serve/service.h"
#include "tests/support/sanitized.h"

namespace loraine::requests_test {
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
      {R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}]})", "messages[0].tool_calls"},
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

constexpr const char* kTools = R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])";

TEST(ChatRequest, ToolsAndShapesAreRefusedByName) {
  const auto tool = [](const std::string& function) { return R"("tools":[{"type":"function","function":)" + function + "}]"; };
  std::string many = R"("tools":[)";
  for (int i = 0; i < 129; ++i) many += R"({"type":"function","function":{"name":"f)" + std::to_string(i) + "\"}},";
  many.back() = ']';
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("tools":{})", "tools"},
      {many, "tools"},
      {R"("tools":[1])", "tools[0]"},
      {R"("tools":[{"type":"web_search"}])", "tools[0]"},
      {R"("tools":[{"type":"function"}])", "tools[0].function"},
      {tool("{}"), "tools[0].function.name"},
      {tool(R"({"name":"a b"})"), "tools[0].function.name"},
      {tool(R"({"name":")" + std::string(65, 'a') + "\"}"), "tools[0].function.name"},
      {tool(R"({"name":"f","description":5})"), "tools[0].function.description"},
      {tool(R"({"name":"f","parameters":"x"})"), "tools[0].function.parameters"},
      {tool(R"({"name":"f","strict":1})"), "tools[0].function.strict"},
      {R"("tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"f"}}])", "tools[1].function.name"},
      {R"("tool_choice":"auto")", "tool_choice"},
      {R"("tool_choice":"required")", "tool_choice"},
      {kTools + std::string(R"(,"tool_choice":"always")"), "tool_choice"},
      {kTools + std::string(R"(,"tool_choice":{"type":"function","function":{"name":"g"}})"), "tool_choice"},
      {kTools + std::string(R"(,"tool_choice":{"type":"function"})"), "tool_choice"},
      {kTools + std::string(R"(,"parallel_tool_calls":"no")"), "parallel_tool_calls"},
      {R"("functions":[{"name":"f"}])", "functions"},
      {R"("include_reasoning":1)", "include_reasoning"},
      {R"("cache_salt":"")", "cache_salt"},
      {R"("response_format":"json")", "response_format"},
      {R"("response_format":{"type":"xml"})", "response_format.type"},
      {R"("response_format":{"type":"json_schema"})", "response_format.json_schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"a"}})", "response_format.json_schema.schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"a","schema":5}})", "response_format.json_schema.schema"},
      {R"("structured_outputs":{})", "structured_outputs"},
      {R"("structured_outputs":{"regex":""})", "structured_outputs.regex"},
      {R"("structured_outputs":{"choice":[]})", "structured_outputs.choice"},
      {R"("structured_outputs":{"choice":["a",1]})", "structured_outputs.choice"},
      {R"("structured_outputs":{"grammar":"root ::= x"})", "structured_outputs.grammar"},
      {R"("structured_outputs":{"regex":"a","choice":["a"]})", "structured_outputs"},
      {R"("guided_grammar":"root ::= x")", "guided_grammar"},
      {R"("guided_json":5)", "guided_json"},
      {R"("guided_regex":"a","response_format":{"type":"json_object"})", "guided_regex"},
  };
  for (const auto& [more, param] : cases) {
    const ApiError error = refusal_of(chat_with(more));
    EXPECT_EQ(error.status, 400) << more;
    EXPECT_EQ(error.param, param) << more << "\n" << error.message;
  }
  EXPECT_EQ(refusal_of(R"({"prompt":"a",)" + std::string(kTools) + "}", true).param, "tools");
  EXPECT_EQ(refusal_of(R"({"prompt":"a","response_format":{"type":"xml"}})", true).param, "response_format.type");
}

TEST(ChatRequest, ToolsAndShapes) {
  const auto read = [](const std::string& more) { return read_chat(parse_json_body(chat_with(more)), {}, kVocab, false, false); };
  using Choice = AskedTools::Choice;
  EXPECT_FALSE(read(R"("tools":[],"tool_choice":"none")").asked.tools.on());
  EXPECT_FALSE(read(kTools + std::string(R"(,"tool_choice":"none")")).asked.tools.on());
  AskedTools tools = read(kTools).asked.tools;
  EXPECT_EQ(tools.choice, Choice::automatic);
  EXPECT_TRUE(tools.on() && tools.parallel);
  EXPECT_EQ(wire_text(tools.list), R"([{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])");
  EXPECT_EQ(read(kTools + std::string(R"(,"tool_choice":"required")")).asked.tools.choice, Choice::required);
  tools =
      read(kTools + std::string(R"(,"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false)")).asked.tools;
  EXPECT_EQ(tools.choice, Choice::required);
  EXPECT_EQ(tools.name, "f");
  EXPECT_FALSE(tools.parallel);
  using Kind = grammar::Shape::Kind;
  const auto shape = [&](const std::string& more) { return read(more).asked.shape.shape; };
  EXPECT_FALSE(shape(R"("response_format":{"type":"text"})"));
  EXPECT_EQ(shape(R"("response_format":{"type":"json_object"})")->kind, Kind::json_object);
  const auto schema =
      shape(R"("response_format":{"type":"json_schema","json_schema":{"name":"a","strict":true,"schema":{"type":"integer"}}})");
  EXPECT_EQ(schema->kind, Kind::json_schema);
  EXPECT_EQ(schema->text, R"({"type":"integer"})");
  EXPECT_EQ(shape(R"("guided_json":"{\"type\":\"integer\"}")")->text, R"({"type":"integer"})");
  EXPECT_EQ(shape(R"("guided_regex":"a+")")->kind, Kind::regex);
  EXPECT_EQ(shape(R"("structured_outputs":{"choice":["a","b"],"disable_any_whitespace":false})")->texts,
            (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(shape(R"("structured_outputs":{"json_object":true,"regex":null})")->kind, Kind::json_object);
  EXPECT_EQ(read(R"("reasoning_effort":"none")").kwargs["enable_thinking"], false);
  EXPECT_EQ(read(R"("reasoning_effort":"low")").kwargs["enable_thinking"], true);
  EXPECT_EQ(read(R"("reasoning_effort":"low","enable_thinking":false)").kwargs["enable_thinking"], false);
}

TEST(ChatRequest, ReadsWhatItSays) {
  const AskedChat chat = read_chat(
      parse_json_body(
          chat_with(R"("temperature":0,"top_k":-1,"stop":"x","n":2,"seed":-5,"logprobs":true,"top_logprobs":3,"logit_bias":{"7":-100},
      "user":"me","tools":[],"tool_choice":"none","response_format":{"type":"text"},"enable_thinking":false,"who_knows":1,"max_tokens":7.0)")),
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
    "function":{"name":"f","arguments":"{\"k\": [1]}"}}],"reasoning":"hm"},{"role":"tool","tool_call_id":"x","content":"r"}]})");
  Fields fields(body);
  EXPECT_EQ(
      wire_text(read_messages(fields)),
      R"([{"role":"system","content":"be brief"},{"role":"user","content":"a\nb","name":"me"},)"
      R"({"role":"assistant","content":"","tool_calls":[{"id":"x","type":"function","function":{"name":"f","arguments":{"k":[1]}}}],"reasoning_content":"hm"},)"
      R"({"role":"tool","content":"r","tool_call_id":"x","name":"f"}])");
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
}  // namespace loraine::requests_test
