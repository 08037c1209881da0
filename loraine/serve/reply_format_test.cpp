// How answers of a template are read, by its marks and by the operator's word; grammars kept and shared; responses kept.
#include "loraine/serve/reply_format.h"

#include <gtest/gtest.h>

#include "loraine/core/error.h"
#include "loraine/serve/grammars.h"
#include "loraine/serve/stored_responses.h"

namespace loraine::reply_format_test {
namespace {

// Bytes, and two special tokens behind them.
class ByteTokens final : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, bool, bool) const override { return {text.begin(), text.end()}; }
  std::string guard(std::string_view part) const override { return std::string(part); }
  std::vector<int32_t> encode_guarded(std::string_view text) const override { return encode(text, false, false); }
  std::string decode(std::span<const int32_t> ids, bool) const override {
    std::string text;
    for (const int32_t id : ids) text += token_bytes(id);
    return text;
  }
  std::optional<int32_t> token_to_id(std::string_view) const override { return {}; }
  std::optional<std::string> id_to_token(int32_t id) const override {
    if (id >= 128) return id == 128 ? "<|end|>" : "<tool_call>";
    return std::string(1, static_cast<char>(id));
  }
  int64_t vocab_size() const override { return 130; }
  bool is_special(int32_t id) const override { return id >= 128; }
  int32_t add_token(const std::string&, bool) override { return 0; }
};

ChatFormat own_format(const std::string& jinja) {
  ChatFormat format;
  format.own = std::make_shared<ChatTemplate>(jinja, nlohmann::ordered_json::object(), "template");
  return format;
}

ModelFiles files_with(const std::string& jinja) {
  ModelFiles files;
  files.chat_template = jinja;
  return files;
}

constexpr const char* kThinksAndCalls = "{{ tools }}<tool_call>arguments</tool_call><think></think>";

TEST(ReplyFormat, ByTheTemplate) {
  ReplyFormat reply = reply_format(own_format(kThinksAndCalls), files_with(kThinksAndCalls), nullptr, {});
  EXPECT_EQ(reply.calls->name, "hermes");
  EXPECT_EQ(reply.thoughts->open, "<think>");
  EXPECT_TRUE(reply.template_tools);
  reply = reply_format(own_format("x mytools"), files_with("x mytools"), nullptr, {});
  EXPECT_FALSE(reply.template_tools || reply.system_tools || reply.thoughts);
  reply = reply_format(own_format("x"), files_with("x"), nullptr, {.calls = "json", .thoughts = "qwen3"});
  EXPECT_TRUE(reply.system_tools);
  EXPECT_EQ(reply.thoughts->close, "</think>");
  EXPECT_FALSE(reply_format(own_format(kThinksAndCalls), files_with(kThinksAndCalls), nullptr, {.thoughts = "none"}).thoughts);
  for (const ReplyParsers& bad : {ReplyParsers{.calls = "morse"}, ReplyParsers{.thoughts = "loud"}})
    EXPECT_THROW(check_reply_parsers(bad), Error);
  check_reply_parsers({"hermes", "deepseek_r1"});
}

TEST(ReplyReader, TellsPartsApartFromWhereThePromptEnds) {
  const ReplyFormat format = reply_format(own_format(kThinksAndCalls), files_with(kThinksAndCalls), nullptr, {});
  const auto read = [&](bool calls, const std::string& prompt, const std::string& text) {
    ReplyReader reader({.format = format, .reads_calls = calls, .tools = WireJson::array(), .prompt = prompt});
    AnswerPart all;
    for (const char c : text) {
      AnswerPart part = reader.push(std::string(1, c));
      all.content += part.content, all.reasoning += part.reasoning;
      for (ToolCall& call : part.calls) all.calls.push_back(std::move(call));
    }
    AnswerPart part = reader.finish();
    all.content += part.content, all.reasoning += part.reasoning;
    for (ToolCall& call : part.calls) all.calls.push_back(std::move(call));
    return all.reasoning + "|" + all.content + "|" + (all.calls.empty() ? "" : all.calls[0].name + all.calls[0].arguments);
  };
  const std::string call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
  EXPECT_EQ(read(true, "q", "<think>\nhm\n</think>\n\nso " + call), "hm|so|f{}");
  EXPECT_EQ(read(true, "q<think>\n", "hm</think>so"), "hm|so|");
  EXPECT_EQ(read(true, "q<think>\n\n</think>\n\n", "so"), "|so|");
  EXPECT_EQ(read(false, "q", "so " + call), "|so " + call + "|");
  EXPECT_EQ(read(true, "q", "<tool_call>{\"name\": </tool_call>"), "|<tool_call>{\"name\": </tool_call>|");
  EXPECT_TRUE(begins_in_thought(ReplyReading{.format = format, .prompt = "q<think>"}));
  EXPECT_FALSE(begins_in_thought(ReplyReading{.format = format, .prompt = "<think>x</think>"}));
  EXPECT_TRUE(begins_behind_thought(ReplyReading{.format = format, .prompt = "q<think>\n\n</think>\n\n"}));
  EXPECT_FALSE(begins_behind_thought(ReplyReading{.format = format, .prompt = "<think>x</think>"}));
}

TEST(Grammars, AreKeptAndShared) {
  const ByteTokens tokens;
  Grammars grammars(tokens);
  const auto shape = [](const std::string& pattern) {
    return CallGrammar{.required = false, .shape = grammar::Shape{.kind = grammar::Shape::Kind::regex, .text = pattern}};
  };
  const auto first = grammars.find(shape("ab?"), {128});
  ASSERT_TRUE(first);
  EXPECT_EQ(grammars.find(shape("ab?"), {128, 128, 9999}).get() == first.get(), false);  // other ends are another vocabulary
  EXPECT_EQ(grammars.find(shape("ab?"), {128}), first);
  EXPECT_NE(grammars.find(shape("ac?"), {128}), first);
  EXPECT_EQ(grammars.counts().found, 1);
  EXPECT_EQ(grammars.find({.required = false}, {128}), nullptr);
  EXPECT_THROW(grammars.find(shape("("), {128}), grammar::GrammarError);
  grammar::GrammarState state(first), other(first);
  EXPECT_TRUE(state.accept('a') && state.accept('b') && state.accept(128));
  EXPECT_FALSE(other.accept('b'));
  for (int i = 0; i < 100; ++i) grammars.find(shape("x" + std::to_string(i)), {128});
  EXPECT_NE(grammars.find(shape("ab?"), {128}), first);  // the oldest are let go
}

TEST(Grammars, ThoughtsBeforeAShapeAndCallsBesideIt) {
  const ByteTokens tokens;
  Grammars grammars(tokens);
  CallGrammar wanted{.required = false, .shape = grammar::Shape{.kind = grammar::Shape::Kind::choice, .texts = {"yes", "no"}}};
  wanted.thoughts = ThoughtMarks{"<think>", "</think>"};
  const auto takes = [&](const std::string& text) {
    grammar::GrammarState state(grammars.find(wanted, {128}));
    for (const char c : text)
      if (!state.accept(static_cast<unsigned char>(c))) return false;
    return state.complete();
  };
  EXPECT_TRUE(takes("yes") && takes("<think>hm</think>\n\nno"));
  EXPECT_FALSE(takes("maybe") || takes("<think>hm"));
  wanted.in_thought = true;
  EXPECT_TRUE(takes("hm</think>no"));
  EXPECT_FALSE(takes("no"));
  wanted.thoughts.reset();
  wanted.format = &call_format("json");
  wanted.tools = nlohmann::ordered_json::parse(R"([{"name": "f"}])");
  EXPECT_TRUE(takes("yes") && takes(R"({"name": "f", "arguments": {}})"));
  EXPECT_FALSE(takes("maybe"));
}

TEST(StoredResponses, OfOneClientAndTheLatest) {
  StoredResponses kept;
  for (int i = 0; i < 300; ++i) kept.put({"resp_" + std::to_string(i), i % 2 ? "a" : "b", {{"i", i}}, WireJson::array()});
  EXPECT_FALSE(kept.find("resp_3", "a"));
  EXPECT_EQ(kept.find("resp_299", "a")->response["i"], 299);
  EXPECT_FALSE(kept.find("resp_299", "b"));
  EXPECT_FALSE(kept.erase("resp_299", "b"));
  EXPECT_TRUE(kept.erase("resp_299", "a"));
  EXPECT_FALSE(kept.find("resp_299", "a"));
  for (int i = 0; i < 3; ++i) kept.put({"large_" + std::to_string(i), "", std::string(30 << 20, 'x'), WireJson::array()});
  EXPECT_FALSE(kept.find("large_0", ""));
  EXPECT_TRUE(kept.find("large_1", "") && kept.find("large_2", ""));
}

}  // namespace
}  // namespace loraine::reply_format_test
