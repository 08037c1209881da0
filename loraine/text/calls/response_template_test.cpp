// Templates as models have them, read whole and in pieces, and templates that are none.
#include "loraine/text/calls/response_template.h"

#include <gtest/gtest.h>

#include <random>

#include "loraine/core/error.h"

namespace loraine::response_template_test {
namespace {

using Json = nlohmann::ordered_json;

const char* const kQwen =
    R"json({"defaults": {"role": "assistant"}, "start_anchor": "<|im_start|>assistant\n", "fields": {"thinking": {"open": "<think>", "close": "</think>"},
  "tool_calls": {"open_pattern": "<tool_call>\\s*<function=(?P<name>\\w+)>", "close": "</tool_call>", "repeats": true, "content": "xml-inline", "content_args": {"tag_pattern":
  "<parameter=(?P<key>\\w+)>\\s*(?P<value>.*?)\\s*</parameter>", "value_parser": {"name": "json", "args": {"allow_non_json": true}}},
  "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}}, "content": {"close": "<|im_end|>"}}})json";
const char* const kSmol =
    R"json({"fields": {"thinking": {"open": "<think>", "close": "</think>", "content": "text"}, "tool_calls": {"open": "<tool_call>", "close": "</tool_call>",
  "repeats": true, "content": "json", "transform": {"type": "function", "function": "{content}"}}, "content": {"close": "<|im_end|>", "content": "text"}}})json";
const char* const kChannels =
    R"json({"version": 1, "fields": {"thinking": {"open": "<|channel|>analysis<|message|>", "close": "<|end|>"}, "content": {"open": "<|channel|>final<|message|>",
  "close": ["<|return|>", "<|end|>", "eos"]}, "tool_calls": {"open_pattern": "<\\|channel\\|>commentary to=functions\\.(?P<name>\\w+).*?<\\|message\\|>", "close": "<|call|>", "repeats": true,
  "content": "json", "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}}}})json";
const char* const kActions =
    R"json({"fields": {"tool_calls": {"open": "<|START_ACTION|>", "close": "<|END_ACTION|>", "content": "json", "content_args": {"unquoted_keys": true, "string_delims":
  [["<|\"|>", "<|\"|>"]]}, "transform_each": true, "transform": {"type": "function", "function": {"name": "{tool_name}", "arguments": "{parameters}"}}}, "content": {}}})json";
const char* const kPython =
    R"json({"fields": {"tool_calls": {"open": "<|s|>", "close": "<|e|>", "content": "python-call-list", "transform_each": true, "transform": {"function": {"name": "{name}",
  "arguments": "{arguments}"}}}, "content": {"content_args": {"strip": false}}}})json";
const char* const kLines =
    R"json({"fields": {"tool_calls": {"open_pattern": "CALL (?P<name>\\w+)\n", "close": "END", "content": "kv-lines", "content_args": {"value_parser": {"name": "int"}},
  "transform": {"name": "{name}", "arguments": "{content}"}}, "content": {}}})json";

struct Case {
  const char *spec, *prompt, *text, *reasoning, *content, *calls;
};
const Case kCases[] = {
    {kQwen, "",
     "<think>\nwhy</think>\n\nOK.\n<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\nx "
     "y\n</parameter>\n</function>\n</tool_call><|im_end|>",
     "why", "OK.", "f{\"a\": 1, \"b\": \"x y\"};"},
    {kQwen, "<|im_start|>user\n<think></think><|im_start|>assistant\n<think>\n", "deep\n</think>\n\nHi", "deep", "Hi", ""},
    {kQwen, "<|im_start|>assistant\n<think>\n\n</think>\n\n", "Hi <b", "", "Hi <b", ""},
    {kQwen, "", "<tool_call>none", "", "<tool_call>none", ""},
    {kSmol, "",
     "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1]}}</tool_call>\n<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
     "", "", "f{\"a\": [1]};g{};"},
    {kSmol, "", "a <tool_call>broken</tool_call> b", "", "a<tool_call>broken</tool_call>b", ""},
    {kSmol, "", "<tool_call>{\"name\": \"f\"}", "", "", "f{};"},
    {kChannels, "",
     "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": "
     "1}<|call|>",
     "Hm", "", "f{\"a\": 1};"},
    {kChannels, "", "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Yes!<|return|>", "Hm", "Yes!", ""},
    {kActions, "", "So <|START_ACTION|>[{tool_name: <|\"|>f<|\"|>, \"parameters\": {\"k: 1\": \"{a: 1}\", b_1 : true}}]<|END_ACTION|>", "",
     "So", "f{\"k: 1\": \"{a: 1}\", \"b_1\": true};"},
    {kPython, "", " a <|s|>[f(x=1), g(y='z')]<|e|>", "", " a ", "f{\"x\": 1};g{\"y\": \"z\"};"},
    {kLines, "", "CALL f\na: 1\nnothing\n b : 2\nEND", "", "", "f{\"a\": 1, \"b\": 2};"},
    {kLines, "", "CALL f\na: x\nEND", "", "CALL f\na: x\nEND", ""},
};

TEST(ResponseTemplate, FieldsAreReadWholeAndInPieces) {
  std::mt19937 random(4);
  for (const Case& each : kCases) {
    const ResponseTemplate fields(Json::parse(each.spec), "t.json");
    for (int round = 0; round < 20; ++round) {
      ResponseTemplate::Reader reader(fields, each.prompt);
      AnswerPart all;
      const auto add = [&](AnswerPart part) {
        all.reasoning += part.reasoning;
        all.content += part.content;
        for (ToolCall& call : part.calls) all.calls.push_back(std::move(call));
      };
      std::string_view text = each.text;
      while (!text.empty()) {
        const size_t n = round == 0 ? text.size() : std::min<size_t>(text.size(), 1 + random() % 5);
        add(reader.push(text.substr(0, n)));
        text.remove_prefix(n);
      }
      add(reader.finish());
      std::string calls;
      for (const ToolCall& call : all.calls) calls += call.name + call.arguments + ";";
      ASSERT_EQ(all.reasoning, each.reasoning) << each.text;
      ASSERT_EQ(all.content, each.content) << each.text;
      ASSERT_EQ(calls, each.calls) << each.text;
    }
  }
}

TEST(ResponseTemplate, ArgumentsTakeTheTypesOfTheirSchema) {
  const ResponseTemplate fields(Json::parse(kSmol), "t.json");
  const Json tools = Json::parse(R"([{"name": "f", "parameters": {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}}])");
  ResponseTemplate::Reader reader(fields, "", tools);
  const AnswerPart part = reader.push(R"(<tool_call>{"name": "f", "arguments": {"a": "3", "b": "4", "c": "5"}}</tool_call>)");
  ASSERT_EQ(part.calls.size(), 1u);
  EXPECT_EQ(part.calls[0].arguments, R"({"a": 3, "b": "4", "c": "5"})");
}

TEST(ResponseTemplate, WhatIsNoTemplateIsRefused) {
  for (const char* bad :
       {"[]", "{}", R"({"fields": {}})", R"({"version": 2, "fields": {"content": {}}})", R"({"fields": {"a": {}, "b": {}}})",
        R"({"fields": {"a": {"open": "x", "open_pattern": "x"}}})", R"({"fields": {"a": {"open_pattern": "("}}})",
        R"({"fields": {"a": {"content": "yaml"}}})", R"({"fields": {"a": {"opens": "x"}}})", R"({"fields": {"a": {"open": 3}}})",
        R"({"fields": {"a": {"content": "xml-inline"}}})",
        R"({"fields": {"a": {"content": "json", "content_args": {"string_delims": [["", ""]]}}}})", R"({"other": 1, "fields": {"a": {}}})"})
    EXPECT_THROW(ResponseTemplate(Json::parse(bad), "t.json"), Error) << bad;
}

}  // namespace
}  // namespace loraine::response_template_test
