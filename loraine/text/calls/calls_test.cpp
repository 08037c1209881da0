// Each form of calls: read whole and in pieces, broken ones as text, and what its grammar lets through read back.
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <random>

#include "loraine/core/error.h"
#include "loraine/grammar/grammar.h"
#include "loraine/text/calls/answer_reader.h"
#include "loraine/text/calls/call_grammar.h"

namespace loraine::calls_test {
namespace {

using Json = nlohmann::ordered_json;

const Json kTools = Json::parse(
    R"([{"type": "function", "function": {"name": "get_weather", "strict": true, "parameters": {"type": "object", "properties": {
  "city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 14}, "unit": {"enum": ["C", "F"]}, "flags": {"type": "array", "items":
  {"type": "boolean"}, "maxItems": 2}, "note": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]}}, "required": ["city", "flags"],
  "additionalProperties": false}}}, {"type": "function", "function": {"name": "stop"}},
  {"type": "function", "function": {"name": "odd", "parameters": {"type": "object", "properties": {"x": {"type": "number", "multipleOf": 2}}}}}])");

std::string calls_of(const AnswerPart& part) {
  std::string out;
  for (const ToolCall& call : part.calls) out += call.name + call.arguments + ";";
  return out;
}

AnswerPart whole(const AnswerReader::Options& options, std::string_view text) {
  AnswerReader reader(options);
  AnswerPart all = reader.push(text), rest = reader.finish();
  all.content += rest.content;
  all.reasoning += rest.reasoning;
  for (ToolCall& call : rest.calls) all.calls.push_back(std::move(call));
  return all;
}

AnswerPart in_pieces(const AnswerReader::Options& options, std::string_view text, std::mt19937& random) {
  AnswerReader reader(options);
  AnswerPart all;
  const auto add = [&](AnswerPart part) {
    all.content += part.content;
    all.reasoning += part.reasoning;
    for (ToolCall& call : part.calls) all.calls.push_back(std::move(call));
  };
  while (!text.empty()) {
    const size_t n = std::min<size_t>(text.size(), 1 + random() % 6);
    add(reader.push(text.substr(0, n)));
    text.remove_prefix(n);
  }
  add(reader.finish());
  return all;
}

struct ReadCase {
  const char *format, *text, *calls, *content;
};
const ReadCase kReadCases[] = {
    {"hermes",
     "I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": "
     "\"</tool_call>\"}}\n</tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>",
     "f{\"a\": \"</tool_call>\"};g{};", "I look."},
    {"hermes", "<tool_call>[{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}, {\"name\": \"g\"}]</tool_call> Done.", "f{\"a\": 1};g{};",
     "Done."},
    {"hermes", "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}", "f{\"a\": 1};", ""},
    {"hermes", "a <tool_call> b < c\n", "", "a <tool_call> b < c\n"},
    {"hermes", "<tool_call>{\"name\": 3}</tool_call><tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>", "g{};",
     "<tool_call>{\"name\": 3}</tool_call>"},
    {"qwen3_coder",
     "Hm.\n<tool_call>\n<function=get_weather>\n<parameter=city>\n12\n34\n</parameter>\n<parameter=days>\n3.0\n</"
     "parameter>\n<parameter=flags>\n[true]\n</parameter>\n</function>\n</tool_call>",
     "get_weather{\"city\": \"12\\n34\", \"days\": 3, \"flags\": [true]};", "Hm."},
    {"qwen3_coder", "<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>x y</parameter></function>", "f{\"a\": 1, \"b\": \"x y\"};",
     ""},
    {"qwen3_coder", "<function=f>\n<parameter=a>\n1", "", "<function=f>\n<parameter=a>\n1"},
    {"llama3_json", "{\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"g\", \"parameters\": {}}", "f{\"a\": 1};g{};", ""},
    {"llama3_json", "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", "f{};", ""},
    {"llama3_json", "{\"name\": \"Ann\", \"age\": 3}", "", "{\"name\": \"Ann\", \"age\": 3}"},
    {"llama3_json", "Say {\"name\": \"f\", \"parameters\": {}}", "", "Say {\"name\": \"f\", \"parameters\": {}}"},
    {"mistral", "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": [1, \"]\"]}}]", "f{\"a\": [1, \"]\"]};", ""},
    {"mistral", "ok[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{}", "f{\"a\": 1};g{};", "ok"},
    {"mistral", "[TOOL_CALLS] none", "", "[TOOL_CALLS] none"},
    {"gemma4", "<|tool_call>call:f{a:<|\"|>x}<tool_call|>,:\"<|\"|>,b:[1,{c:true}]}<tool_call|>",
     "f{\"a\": \"x}<tool_call|>,:\\\"\", \"b\": [1, {\"c\": true}]};", ""},
    {"gemma4", "<|tool_call>call:f{a b}<tool_call|>", "", "<|tool_call>call:f{a b}<tool_call|>"},
    {"glm4_moe",
     "\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</"
     "arg_value>\n</tool_call>",
     "get_weather{\"city\": \"Paris\", \"days\": 2};", ""},
    {"glm4_moe", "<tool_call>stop</tool_call>", "stop{};", ""},
    {"pythonic", "Yes.<|tool_call_start|>[f(a=1, b='<|tool_call_end|>'), g()]<|tool_call_end|>",
     "f{\"a\": 1, \"b\": \"<|tool_call_end|>\"};g{};", "Yes."},
    {"pythonic", "<|tool_call_start|>[f(]<|tool_call_end|>", "", "<|tool_call_start|>[f(]<|tool_call_end|>"},
    {"phi4_mini", "functools[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]", "f{\"a\": 1};", ""},
    {"phi4_mini", "use functools[0]", "", "use functools[0]"},
    {"deepseek_v3",
     "So:\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": "
     "1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
     "f{\"a\": 1};g{};", "So:"},
    {"deepseek_v3", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
     "f{\"a\": 1};", ""},
    {"nemotron_v2",
     "So.\n<TOOLCALL>[{\"name\": \"f\", \"arguments\": {\"a\": \"</TOOLCALL>\"}}, {\"name\": \"g\", \"arguments\": {}}]</TOOLCALL>",
     "f{\"a\": \"</TOOLCALL>\"};g{};", "So."},
    {"nemotron_v2", "<TOOLCALL>none</TOOLCALL>", "", "<TOOLCALL>none</TOOLCALL>"},
    {"command_r",
     "Plan.\nAction:\n```json\n[\n    {\n        \"tool_name\": \"f\",\n        \"parameters\": {\n            \"a\": 1\n        }\n    "
     "}\n]```\n",
     "f{\"a\": 1};", "Plan."},
    {"command_r", "Action: ```json\n[{\"tool_name\": \"f\"}, {\"tool_name\": \"g\", \"parameters\": {}}]\n```", "f{};g{};", ""},
    {"command_r", "Action: none", "", "Action: none"},
    {"action", "I look.\nAction: f\nAction Input: {\"a\": \"Action: g\"}\nAction: g\nAction Input: ```{}```",
     "f{\"a\": \"Action: g\"};g{};", "I look."},
    {"default", "```\nAction: get-it\nAction Input: {\"a\": 1}\n```", "get-it{\"a\": 1};", ""},
    {"action", "Action: f\nAction Input: \"{\"a\": 1}\" Done.", "f{\"a\": 1};", "Done."},
    {"action", "Action: go on\nAction Input: {}", "", "Action: go on\nAction Input: {}"},
    {"action", "Action: f\nAction Input: {\"a\": ", "", "Action: f\nAction Input: {\"a\": "},
    {"json", " {\"name\": \"f\", \"arguments\": {}}", "f{};", ""},
    {"json", "[{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": {\"a\": \"é\"}}]", "f{};g{\"a\": \"é\"};", ""},
    {"json", "[1, 2]", "", "[1, 2]"},
    {"json", "{\"name\": \"f\", \"arguments\": {", "", "{\"name\": \"f\", \"arguments\": {"},
};

TEST(Calls, EveryFormIsReadWholeAndInPieces) {
  std::mt19937 random(5);
  for (const ReadCase& each : kReadCases) {
    const AnswerReader::Options options{.calls = &call_format(each.format), .tools = kTools};
    const AnswerPart all = whole(options, each.text);
    EXPECT_EQ(calls_of(all), each.calls) << each.format << ": " << each.text;
    EXPECT_EQ(all.content, each.content) << each.format << ": " << each.text;
    for (int i = 0; i < 20; ++i) {
      const AnswerPart pieces = in_pieces(options, each.text, random);
      ASSERT_EQ(calls_of(pieces), calls_of(all)) << each.text;
      ASSERT_EQ(pieces.content, all.content) << each.text;
    }
  }
}

TEST(Calls, RandomTextsAreReadAlikeInPieces) {
  const std::vector<std::string> words{"<tool_call>",
                                       "</tool_call>",
                                       "\n",
                                       "{\"name\": \"f\", \"arguments\": {\"a\": 1}}",
                                       "{",
                                       "}",
                                       "\"",
                                       "<function=f>",
                                       "</function>",
                                       "<parameter=a>",
                                       "</parameter>",
                                       "[",
                                       "]",
                                       "[TOOL_CALLS]",
                                       "[ARGS]",
                                       "f",
                                       " ",
                                       ";",
                                       "<|tool_call>call:",
                                       "{a:1}",
                                       "<tool_call|>",
                                       "<arg_key>",
                                       "</arg_key>",
                                       "<arg_value>",
                                       "</arg_value>",
                                       "<|tool_call_start|>",
                                       "<|tool_call_end|>",
                                       "[f(a=1)]",
                                       "functools[",
                                       "<｜tool▁calls▁begin｜>",
                                       "<｜tool▁call▁begin｜>",
                                       "<｜tool▁sep｜>",
                                       "```json\n",
                                       "```",
                                       "<think>",
                                       "</think>",
                                       "<|python_tag|>",
                                       "<tool",
                                       "é",
                                       "\xff",
                                       "name",
                                       "Action:",
                                       "<TOOLCALL>",
                                       "</TOOLCALL>",
                                       "[{\"tool_name\": \"f\"}]",
                                       "Action: f\nAction Input: ",
                                       "`"};
  std::mt19937 random(11);
  int found = 0;
  for (int round = 0; round < 6000; ++round) {
    std::string text;
    for (size_t i = random() % 9; i > 0; --i) text += words[random() % words.size()];
    const auto names = call_formats();
    AnswerReader::Options options{.calls = &call_format(names[random() % names.size()])};
    if (random() % 2) options.thoughts = ThoughtMarks{"<think>", "</think>"};
    options.in_thought = options.thoughts && random() % 3 == 0;
    const AnswerPart all = whole(options, text), pieces = in_pieces(options, text, random);
    ASSERT_EQ(calls_of(pieces), calls_of(all)) << text;
    ASSERT_EQ(pieces.content, all.content) << text;
    ASSERT_EQ(pieces.reasoning, all.reasoning) << text;
    found += !all.calls.empty();
  }
  EXPECT_GT(found, 20);
}

TEST(Calls, Thoughts) {
  const ThoughtMarks marks{"<think>", "</think>"};
  struct Case {
    const char* text;
    bool inside;
    const char *reasoning, *content;
  };
  const Case cases[] = {{"<think>\na b\n\nc\n</think>\n\nYes. ", false, "a b\n\nc", "Yes. "},
                        {"a\n</think>\n\nYes", true, "a", "Yes"},
                        {"No <think>a</think>", false, "", "No <think>a</think>"},
                        {"<think>never closed ", false, "never closed", ""},
                        {"\n <think></think>x", false, "", "x"},
                        {"<thin", false, "", "<thin"},
                        {"", true, "", ""}};
  std::mt19937 random(2);
  for (const Case& each : cases) {
    const AnswerReader::Options options{.thoughts = marks, .in_thought = each.inside};
    for (int i = 0; i < 10; ++i) {
      const AnswerPart part = in_pieces(options, each.text, random);
      EXPECT_EQ(part.reasoning, each.reasoning) << each.text;
      EXPECT_EQ(part.content, each.content) << each.text;
    }
  }
  const AnswerPart channels = whole({.thoughts = thought_marks_of_template("… <|channel|>analysis …")},
                                    "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi");
  EXPECT_EQ(channels.reasoning, "Hm.");
  EXPECT_EQ(channels.content, "Hi");
  EXPECT_TRUE(begins_in_thought(marks, "<|im_start|>assistant\n<think>\n"));
  EXPECT_FALSE(begins_in_thought(marks, "<think>\n\n</think>\n\n"));
  EXPECT_FALSE(thought_marks_of_template("plain"));
}

TEST(Calls, FormatsByTemplateAndName) {
  const std::map<std::string, const char*> templates{{"<tool_call> arguments", "hermes"},
                                                     {"<tool_call> <function=", "qwen3_coder"},
                                                     {"<tool_call> <arg_key> arguments", "glm4_moe"},
                                                     {"<|tool_call>call:", "gemma4"},
                                                     {"[TOOL_CALLS]", "mistral"},
                                                     {"<|python_tag|>", "llama3_json"},
                                                     {"<|tool_call_start|>[", "pythonic"},
                                                     {"functools[", "phi4_mini"},
                                                     {"<｜tool▁call▁begin｜>", "deepseek_v3"},
                                                     {"<TOOLCALL>[ arguments", "nemotron_v2"},
                                                     {"Action:\n```json [{\"tool_name\": …", "command_r"},
                                                     {"<|START_ACTION|>[ tool_name ] Action:", "json"},
                                                     {"plain", "json"}};
  for (const auto& [text, name] : templates) EXPECT_EQ(call_format_of_template(text).name, name);
  EXPECT_EQ(call_format("qwen").name, "hermes");
  EXPECT_THROW(call_format("nonsense"), Error);
  std::mt19937_64 random(1);
  const std::string id = new_call_id(call_format("hermes"), random), mistral = new_call_id(call_format("mistral"), random);
  EXPECT_EQ(id.size(), 29u);
  EXPECT_EQ(id.find_first_not_of("0123456789abcdef", 5), std::string::npos);
  EXPECT_EQ(mistral.size(), 9u);
}

// A text that the grammar allows, drawn byte by byte (special tokens whole).
std::string drawn(const std::shared_ptr<const grammar::TokenGrammar>& masks, std::mt19937& random) {
  const grammar::Vocabulary& vocabulary = masks->vocabulary();
  grammar::GrammarState state(masks);
  std::vector<uint64_t> bits(vocabulary.words());
  std::string out;
  for (int step = 0; step < 4000; ++step) {
    state.fill(bits);
    std::vector<int32_t> ids, leave;
    const char* const kEnds[] = {"<|\"|>", "\n</parameter>\n", "</arg_value>"};  // which bytes drawn one by one would hardly come to
    if (const char* mark = kEnds[random() % 3]; random() % 4 == 0) {
      if (grammar::GrammarState copy = state; copy.accept_text(mark)) {
        state = copy;
        out += mark;
        continue;
      }
    }
    for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.size()); ++id) {
      if (!(bits[static_cast<size_t>(id) / 64] >> (id & 63) & 1)) continue;
      ids.push_back(id);
      if (id < 256 && std::string_view("\"<}])\n,t").find(static_cast<char>(id)) != std::string_view::npos) leave.push_back(id);
    }
    int32_t id = ids.at(random() % ids.size());
    if (!leave.empty() && random() % 2) id = leave[random() % leave.size()];
    for (const int32_t other : ids)  // special tokens end what bytes cannot
      if (other >= 256 && random() % 8 == 0) id = other;
    if (vocabulary.is_end(ids.back()) && random() % 2) id = ids.back();
    EXPECT_TRUE(state.accept(id));
    if (vocabulary.is_end(id)) return out;
    std::string_view bytes = vocabulary.bytes(id);
    if (bytes[0] == grammar::kSpecialOpen) bytes = bytes.substr(1, bytes.size() - 2);
    out += bytes;
  }
  return out + " (too long)";
}

TEST(Calls, WhatAGrammarAllowsIsReadBack) {
  std::mt19937 random(9);
  const std::vector<std::string> marks{"[TOOL_CALLS]",        "<|tool_call>",      "<tool_call|>",          "<|\"|>",
                                       "<|tool_call_start|>", "<|tool_call_end|>", "<｜tool▁calls▁begin｜>"};
  for (const bool special : {false, true}) {
    std::vector<TokenBytes> tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.push_back({std::string(1, static_cast<char>(byte))});
    for (const std::string& mark : marks) tokens.push_back({mark, true});
    tokens.push_back({"</s>", true});
    const auto vocabulary =
        std::make_shared<const grammar::Vocabulary>(tokens, std::vector<int32_t>{static_cast<int32_t>(tokens.size() - 1)});
    for (const std::string& name : call_formats()) {
      CallGrammar wanted{.format = &call_format(name), .tools = kTools};
      if (special) wanted.special_tokens = marks;
      const auto masks = std::make_shared<const grammar::TokenGrammar>(call_grammar(wanted), vocabulary);
      wanted.name = "get_weather";
      wanted.parallel = false;
      const auto one = std::make_shared<const grammar::TokenGrammar>(call_grammar(wanted), vocabulary);
      int weather = 0;
      for (int i = 0; i < 15; ++i) {
        const AnswerReader::Options options{.calls = wanted.format, .tools = kTools};
        const std::string text = drawn(masks, random), named = drawn(one, random);
        const AnswerPart part = whole(options, text), single = whole(options, named);
        EXPECT_EQ(part.content, "") << name << ": " << text;
        EXPECT_GE(part.calls.size(), 1u) << name << ": " << text;
        ASSERT_EQ(single.calls.size(), 1u) << name << ": " << named;
        EXPECT_EQ(single.calls[0].name, "get_weather");
        for (const ToolCall& call : part.calls) {
          const Json arguments = Json::parse(call.arguments);
          ASSERT_TRUE(arguments.is_object());
          if (call.name == "get_weather") {
            ++weather;
            EXPECT_TRUE(arguments.at("city").is_string() && arguments.at("flags").is_array() && arguments["flags"].size() <= 2) << text;
            EXPECT_TRUE(!arguments.contains("days") ||
                        (arguments["days"].is_number_integer() && arguments["days"] >= 1 && arguments["days"] <= 14))
                << text;
            EXPECT_TRUE(!arguments.contains("unit") || arguments["unit"] == "C" || arguments["unit"] == "F") << text;
          }
        }
      }
      EXPECT_GT(weather, 0) << name;
    }
  }
}

TEST(Calls, TextWithCallsIsConstrainedBehindTheMarker) {
  std::vector<TokenBytes> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back({std::string(1, static_cast<char>(byte))});
  tokens.push_back({"<|tool_call>", true});
  tokens.push_back({"<other>", true});
  tokens.push_back({"</s>", true});
  const auto vocabulary = std::make_shared<const grammar::Vocabulary>(tokens, std::vector<int32_t>{258});
  CallGrammar wanted{.format = &call_format("hermes"), .tools = kTools, .required = false, .special_tokens = {"<|tool_call>", "<other>"}};
  grammar::GrammarState state(std::make_shared<grammar::TokenGrammar>(call_grammar(wanted), vocabulary));
  EXPECT_TRUE(state.accept_text("Hello <tool_cal") && state.complete() && state.accept_text(" and <tool_call>") && !state.complete());
  EXPECT_FALSE(state.accept_text("x"));
  EXPECT_FALSE(state.accept_text("\n{\"name\": \"nobody"));
  EXPECT_TRUE(state.accept_text("\n{\"name\": \"stop\", \"arguments\": {}}\n</tool_call> bye") && state.complete() && state.accept(257));
  wanted.format = &call_format("gemma4");
  grammar::GrammarState gemma(std::make_shared<grammar::TokenGrammar>(call_grammar(wanted), vocabulary));
  EXPECT_TRUE(gemma.accept_text("a") && gemma.accept(256) && gemma.accept_text("call:stop{}<tool_call|>") && gemma.complete());
  for (const char* name : {"json", "llama3_json"}) {
    wanted.format = &call_format(name);
    EXPECT_FALSE(call_grammar(wanted)) << name;
  }
  wanted = {.format = &call_format("hermes"), .tools = kTools, .thoughts = ThoughtMarks{"<think>", "</think>"}, .in_thought = true};
  grammar::GrammarState thinking(std::make_shared<grammar::TokenGrammar>(call_grammar(wanted), vocabulary));
  EXPECT_FALSE(thinking.accept_text("<tool_call>\n") && thinking.complete());
  EXPECT_TRUE(thinking.accept_text("</think>\n\n<tool_call>\n{\"name\": \"stop\", \"arguments\": {}}\n</tool_call>") &&
              thinking.complete());
}

TEST(Calls, ToolsThatCannotBeEnforced) {
  const auto failure = [](CallGrammar wanted) {
    try {
      call_grammar(wanted);
    } catch (const grammar::GrammarError& error) { return error.code + " " + error.path; } catch (const Error& error) {
      return std::string("usage");
    }
    return std::string("none");
  };
  CallGrammar wanted{.format = &call_format("hermes"), .tools = kTools};
  EXPECT_EQ(failure(wanted), "none");  // `odd` has a keyword that is not built, but is not strict
  wanted.tools[2]["function"]["strict"] = true;
  EXPECT_EQ(failure(wanted), "unsupported_schema #/tools/2/function/parameters/properties/x/multipleOf");
  wanted.name = "nobody";
  EXPECT_EQ(failure(wanted), "usage");
  wanted.name = "";
  wanted.tools = Json::parse(R"([{"name": "a b"}])");
  EXPECT_EQ(failure(wanted), "usage");
  wanted.tools = Json::array();
  EXPECT_EQ(failure(wanted), "usage");
  wanted.format = &call_format("pythonic");
  wanted.tools = Json::parse(R"([{"name": "f", "strict": true, "parameters": {"properties": {"a b": {}}}}])");
  EXPECT_EQ(failure(wanted), "unsupported_schema #/tools/0/parameters/properties/a b");
}

// Of each form that writes arguments as JSON, a byte at a time: name first, arguments as they are written, nothing twice.
TEST(CallPieces, AsTheyAreWritten) {
  const std::string deep = R"({"city": "a \"}{ b", "x": [1, {"y": []}]})";
  for (const auto& [name, before, between, after] : std::vector<std::array<std::string, 4>>{
           {"hermes", "<tool_call>\n{\"name\": \"f\", \"arguments\": ", "}\n</tool_call>\n<tool_call>\n{\"name\": \"g-2\", \"arguments\": ",
            "}\n</tool_call>"},
           {"llama3_json", "{\"name\": \"f\", \"parameters\": ", "}; {\"name\": \"g-2\", \"parameters\": ", "}"},
           {"mistral", "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": ", "}, {\"name\": \"g-2\", \"arguments\": ", "}]"},
           {"mistral", "[TOOL_CALLS]f[ARGS]", "[TOOL_CALLS]g-2[ARGS]", ""},
           {"phi4_mini", "functools[{\"name\": \"f\", \"arguments\": ", "}, {\"name\": \"g-2\", \"arguments\": ", "}]"},
           {"json", "[{\"name\": \"f\", \"arguments\": ", "}, {\"name\": \"g-2\", \"arguments\": ", "}]"},
           {"deepseek_v3", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n",
            "\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g-2\n```json\n",
            "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"}}) {
    AnswerReader reader({.calls = &call_format(name), .in_pieces = true});
    std::vector<CallPiece> calls;
    AnswerPart all;
    int pieces = 0;
    const auto take = [&](const AnswerPart& part) {
      all.content += part.content;
      all.calls.insert(all.calls.end(), part.calls.begin(), part.calls.end());
      for (const CallPiece& piece : part.pieces) {
        ++pieces;
        if (piece.begins()) calls.push_back({piece.name, "", false});
        ASSERT_FALSE(calls.empty());
        ASSERT_FALSE(calls.back().ends);
        calls.back().arguments += piece.arguments;
        calls.back().ends = piece.ends;
      }
    };
    for (const char c : before + deep + between + "{}" + after) take(reader.push(std::string(1, c)));
    take(reader.finish());
    EXPECT_TRUE(all.calls.empty() && all.content.empty()) << name << all.content;
    ASSERT_EQ(calls.size(), 2u) << name;
    EXPECT_EQ(calls[0].name + calls[0].arguments, "f" + deep) << name;
    EXPECT_EQ(calls[1].name + calls[1].arguments, "g-2{}") << name;
    EXPECT_TRUE(calls[0].ends && calls[1].ends);
    EXPECT_GT(pieces, 20) << name;
  }
  // One that is cut stays what was told of it; forms without JSON are told whole.
  AnswerReader cut({.calls = &call_format("hermes"), .in_pieces = true});
  AnswerPart part = cut.push("so <tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": ");
  ASSERT_EQ(part.pieces.size(), 1u);
  EXPECT_EQ(part.content + part.pieces[0].name + part.pieces[0].arguments, "sof{\"a\": ");
  part = cut.finish();
  EXPECT_TRUE(part.content.empty() && part.calls.empty());
  AnswerReader tags({.calls = &call_format("qwen3_coder"), .in_pieces = true});
  part = tags.push("<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>");
  EXPECT_TRUE(part.pieces.empty());
  EXPECT_EQ(calls_of(part), "f{\"a\": 1};");
}

}  // namespace
}  // namespace loraine::calls_test
