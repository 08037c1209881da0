// Bodies of /v1/responses and /v1/messages: to messages as templates take them; what is refused, and by which name.
#include <gtest/gtest.h>

#include "loraine/serve/protocol/anthropic.h"
#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/responses.h"
#include "loraine/serve/service.h"

namespace loraine::other_requests_test {
namespace {

AskedResponse response_of(const std::string& body) { return read_response(parse_json_body(body), {}, 100, false, false); }
AskedChat message_of(const std::string& body) { return read_anthropic(parse_json_body(body), {}, 100, false); }

template <class F>
std::string param_of(const F& read, const std::string& body) {
  try {
    read(body);
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400) << body;
    return error.param;
  }
  return "taken";
}

TEST(ResponsesRequest, ItemsBecomeMessages) {
  const AskedResponse asked = response_of(R"({"instructions":"be brief","store":true,"previous_response_id":"resp_1","max_output_tokens":9,
    "reasoning":{"effort":"none"},"include":["message.output_text.logprobs"],"text":{"format":{"type":"json_schema","name":"a","schema":{"type":"object"}}},
    "input":[{"role":"developer","content":"d"},{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]},
    {"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},
    {"type":"function_call","call_id":"c1","name":"f","arguments":"{\"k\":1}"},{"type":"function_call","call_id":"c2","name":"g","arguments":"{}"},
    {"type":"function_call_output","call_id":"c2","output":"two"},{"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"one"}]},
    {"type":"message","role":"assistant","content":[{"type":"output_text","text":"so","annotations":[]}]},{"role":"user","content":"and?"}]})");
  EXPECT_EQ(
      wire_text(asked.chat.messages),
      R"([{"role":"system","content":"d"},{"role":"user","content":"a\nb"},)"
      R"({"role":"assistant","content":"","reasoning_content":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":{"k":1}}},)"
      R"({"id":"c2","type":"function","function":{"name":"g","arguments":{}}}]},)"
      R"({"role":"tool","content":"two","tool_call_id":"c2","name":"g"},{"role":"tool","content":"one","tool_call_id":"c1","name":"f"},)"
      R"({"role":"assistant","content":"so"},{"role":"user","content":"and?"}])");
  EXPECT_EQ(asked.instructions, "be brief");
  EXPECT_EQ(asked.previous, "resp_1");
  EXPECT_TRUE(asked.store);
  EXPECT_EQ(asked.chat.asked.max_tokens, 9);
  EXPECT_EQ(asked.chat.asked.options.logprobs, 0);
  EXPECT_EQ(asked.chat.kwargs["enable_thinking"], false);
  EXPECT_EQ(asked.chat.asked.shape.field, "text.format.schema");
  const AskedResponse tools =
      response_of(R"({"input":"hi","tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":true}],
    "tool_choice":{"type":"function","name":"f"},"parallel_tool_calls":false})");
  EXPECT_EQ(wire_text(tools.chat.messages), R"([{"role":"user","content":"hi"}])");
  EXPECT_EQ(wire_text(tools.chat.asked.tools.list),
            R"([{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}])");
  EXPECT_EQ(tools.chat.asked.tools.name, "f");
  EXPECT_FALSE(tools.store || tools.chat.asked.tools.parallel);
}

TEST(ResponsesRequest, RefusalsNameTheField) {
  for (const auto& [body, param] : std::vector<std::pair<std::string, std::string>>{
           {R"({})", "input"},
           {R"({"input":[]})", "input"},
           {R"({"input":5})", "input"},
           {R"({"input":[5]})", "input[0]"},
           {R"({"input":[{"role":"wizard","content":"a"}]})", "input[0].role"},
           {R"({"input":[{"role":"user","content":[{"type":"input_image"}]}]})", "input[0].content"},
           {R"({"input":[{"type":"item_reference","id":"x"}]})", "input[0].type"},
           {R"({"input":[{"type":"function_call","name":"f"}]})", "input[0]"},
           {R"({"input":[{"type":"function_call","call_id":"a","name":"f","arguments":"{"}]})", "input[0].arguments"},
           {R"({"input":[{"type":"function_call_output","output":"x"}]})", "input[0]"},
           {R"({"input":"a","background":true})", "background"},
           {R"({"input":"a","truncation":"auto"})", "truncation"},
           {R"({"input":"a","max_output_tokens":0})", "max_output_tokens"},
           {R"({"input":"a","tools":[{"type":"web_search"}]})", "tools[0].type"},
           {R"({"input":"a","tools":[{"type":"function","name":"a b"}]})", "tools[0].name"},
           {R"({"input":"a","text":{"format":{"type":"grammar"}}})", "text.format.type"},
           {R"({"input":"a","top_logprobs":21})", "top_logprobs"},
           {R"({"input":"a","n":2})", "n"},
       })
    EXPECT_EQ(param_of(response_of, body), param) << body;
}

TEST(AnthropicRequest, BlocksBecomeMessages) {
  const AskedChat asked = message_of(
      R"({"max_tokens":2000,"system":[{"type":"text","text":"be","cache_control":{"type":"ephemeral"}},{"type":"text","text":"brief"}],
    "messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"x"},{"type":"text","text":"ok"},
    {"type":"tool_use","id":"t1","name":"f","input":{"k":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"one"}]},
    {"type":"text","text":"and?"}]}],"tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},
    "stop_sequences":["x"],"thinking":{"type":"enabled","budget_tokens":1024},"metadata":{"user_id":"me"}})");
  EXPECT_EQ(
      wire_text(asked.messages),
      R"([{"role":"system","content":"be\nbrief"},{"role":"user","content":"go"},)"
      R"({"role":"assistant","content":"ok","tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":{"k":1}}}],"reasoning_content":"hm"},)"
      R"({"role":"tool","content":"one","tool_call_id":"t1","name":"f"},{"role":"user","content":"and?"}])");
  EXPECT_EQ(wire_text(asked.asked.tools.list),
            R"([{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}])");
  EXPECT_EQ(asked.asked.tools.choice, AskedTools::Choice::required);
  EXPECT_FALSE(asked.asked.tools.parallel);
  EXPECT_EQ(asked.asked.stop, std::vector<std::string>{"x"});
  EXPECT_EQ(asked.kwargs["enable_thinking"], true);
  EXPECT_TRUE(asked.ignored.empty()) << asked.ignored;
  const AskedChat goes_on = message_of(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})");
  EXPECT_EQ(goes_on.kwargs["continue_final_message"], true);
  EXPECT_EQ(goes_on.kwargs["enable_thinking"], false);
  EXPECT_EQ(goes_on.asked.most_tokens, 4096);
}

TEST(AnthropicRequest, RefusalsNameTheField) {
  const auto with = [](const std::string& more) { return R"({"messages":[{"role":"user","content":"a"}],)" + more + "}"; };
  for (const auto& [body, param] : std::vector<std::pair<std::string, std::string>>{
           {R"({})", "messages"},
           {R"({"messages":[]})", "messages"},
           {R"({"messages":[{"role":"system","content":"a"}]})", "messages[0].role"},
           {R"({"messages":[{"role":"user","content":5}]})", "messages[0].content"},
           {R"({"messages":[{"role":"user","content":[{"type":"image"}]}]})", "messages[0].content[0].type"},
           {R"({"messages":[{"role":"user","content":[5]}]})", "messages[0].content[0].type"},
           {R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})", "messages[0].content[0][0]"},
           {R"({"messages":[{"role":"user","content":[{"type":"tool_result"}]}]})", "messages[0].content[0].tool_use_id"},
           {R"({"messages":[{"role":"assistant","content":[{"type":"tool_use","name":"f"}]}]})", "messages[0].content[0]"},
           {R"({"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":[]}]}]})",
            "messages[0].content[0].input"},
           {with(R"("system":5)"), "system"},
           {with(R"("max_tokens":0)"), "max_tokens"},
           {with(R"("temperature":1.5)"), "temperature"},
           {with(R"("stop_sequences":[""])"), "stop_sequences"},
           {with(R"("tools":[{"type":"bash_20250124","name":"bash"}])"), "tools[0].type"},
           {with(R"("tools":[{"name":"f","input_schema":5}])"), "tools[0].input_schema"},
           {with(R"("tool_choice":{"type":"any"})"), "tool_choice"},
           {with(R"("tools":[{"name":"f"}],"tool_choice":{"type":"tool","name":"g"})"), "tool_choice.name"},
           {with(R"("tools":[{"name":"f"}],"tool_choice":{"type":"some"})"), "tool_choice.type"},
           {with(R"("thinking":{"type":"enabled"})"), "thinking.budget_tokens"},
           {with(R"("thinking":{"type":"enabled","budget_tokens":10})"), "thinking.budget_tokens"},
           {with(R"("max_tokens":1024,"thinking":{"type":"enabled","budget_tokens":2048})"), "thinking.budget_tokens"},
           {with(R"("thinking":{"type":"much"})"), "thinking.type"},
           {with(R"("output_config":{"format":{"type":"json_schema"}})"), "output_config.format.schema"},
           {with(R"("mcp_servers":[{"url":"x"}])"), "mcp_servers"},
       })
    EXPECT_EQ(param_of(message_of, body), param) << body;
}

}  // namespace
}  // namespace loraine::other_requests_test
