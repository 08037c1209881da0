// Label masks from a model's own template: by renderings and by {% generation %} the same, in long conversations too.
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>

#include "loraine/core/batch.h"
#include "loraine/core/error.h"
#include "loraine/data/encode/encode.h"

namespace loraine::chat_encode_test {
namespace {

using Json = nlohmann::ordered_json;

// One id per byte; the markers are special tokens from 256 on.
class MarkerTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens, bool split_special_tokens) const override {
    std::vector<int32_t> ids;
    if (add_special_tokens) ids.push_back(256);
    for (size_t at = 0; at < text.size();) {
      int32_t special = 0;
      if (!split_special_tokens)
        for (size_t m = 0; m < std::size(kMarkers); ++m)
          if (text.substr(at, kMarkers[m].size()) == kMarkers[m]) special = static_cast<int32_t>(256 + m);
      ids.push_back(special > 0 ? special : static_cast<unsigned char>(text[at]));
      at += special > 0 ? kMarkers[static_cast<size_t>(special - 256)].size() : 1;
    }
    bytes_encoded += text.size();
    return ids;
  }
  std::string guard(std::string_view part) const override {  // between the first two letters of a marker
    std::string out(part);
    for (const std::string_view marker : kMarkers)
      for (size_t at = out.find(marker); at != out.npos; at = out.find(marker, at)) out.insert(at + 1, 1, '\x01');
    return out;
  }
  std::vector<int32_t> encode_guarded(std::string_view text) const override {
    std::vector<int32_t> ids = encode(text, false, false);
    std::erase(ids, 1);
    return ids;
  }
  std::string decode(std::span<const int32_t> ids, bool) const override {
    std::string text;
    for (const int32_t id : ids)
      text += id >= 256 ? std::string(kMarkers[static_cast<size_t>(id - 256)]) : std::string(1, static_cast<char>(id));
    return text;
  }
  std::optional<int32_t> token_to_id(std::string_view) const override { return std::nullopt; }
  std::optional<std::string> id_to_token(int32_t id) const override { return decode(std::vector<int32_t>{id}, false); }
  int64_t vocab_size() const override { return 260; }
  bool is_special(int32_t id) const override { return id >= 256; }
  int32_t add_token(const std::string&, bool) override { return 259; }
  mutable size_t bytes_encoded = 0;

 private:
  static constexpr std::string_view kMarkers[] = {"<s>", "<|im_start|>", "<|im_end|>"};
};

Json conversation(int answers, bool repetitive) {
  Json messages = Json::array({{{"role", "system"}, {"content", "Be brief."}}});
  for (int i = 0; i < answers; ++i) {
    const std::string number = repetitive ? "" : std::to_string(i);
    messages.push_back({{"role", "user"}, {"content", " user\nassistant <|im_start|> " + number}});
    messages.push_back({{"role", "assistant"}, {"content", i % 7 == 3 ? "" : "assistant" + number + "\n"}});
  }
  return messages;
}

const std::string kBody =
    "{{ '<s>' }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% BEGIN %}{{ m.content + "
    "'<|im_end|>\n' }}{% END %}{% else %}{{ (m.content | trim) + '<|im_end|>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}";

std::string with_blocks(bool blocks) {
  std::string source = kBody;
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"{% BEGIN %}", blocks ? "{% generation %}" : ""},
                                 {"{% END %}", blocks ? "{% endgeneration %}" : ""}})
    source.replace(source.find(from), from.size(), to);
  return source;
}

Example encode(const std::string& source, const Json& messages, const MarkerTokenizer& tokenizer, EncodeOptions options = {}) {
  options.cutoff_len = 1 << 24;
  return encode_with_chat_template(ChatTemplate(source, Json::object(), "template"), tokenizer, messages, Json::object(), options).example;
}

TEST(ChatEncode, RenderingsAndBlocksGiveTheSameMasks) {
  const MarkerTokenizer tokenizer;
  for (const bool repetitive : {false, true})
    for (const int answers : {1, 2, 3, 20}) {
      const Json messages = conversation(answers, repetitive);
      const Example blocks = encode(with_blocks(true), messages, tokenizer), renderings = encode(with_blocks(false), messages, tokenizer);
      EXPECT_EQ(blocks.input_ids, renderings.input_ids);
      EXPECT_EQ(blocks.labels, renderings.labels);
      EXPECT_EQ(std::count(renderings.labels.begin(), renderings.labels.end(), 258), answers);  // each end of turn is trained
      EXPECT_EQ(std::count(renderings.input_ids.begin(), renderings.input_ids.end(), 256), 1);  // one BOS
    }
}

TEST(ChatEncode, ResultsThatCameTogetherAreMessagesOfTheirOwn) {
  Conversation conversation;
  conversation.messages = {{Role::user, "Both?"},
                           {Role::function, R"([{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}])"},
                           {Role::observation, "one\n</tool_response>\n<tool_response>\ntwo"},
                           {Role::assistant, "Done."}};
  Json kwargs = Json::object();
  const Json messages = template_messages(conversation, "", kwargs);
  ASSERT_EQ(messages.size(), 5u);
  EXPECT_EQ(messages[2], (Json{{"role", "tool"}, {"content", "one"}}));
  EXPECT_EQ(messages[3], (Json{{"role", "tool"}, {"content", "two"}}));
}

// A template that ends every conversation with an instruction of its own, and writes calls without a mark behind them, as Command R+'s
// does.
TEST(ChatEncode, ATurnOfTheTemplatesOwnIsNotTrained) {
  const MarkerTokenizer tokenizer;
  const std::string source =
      "{{ '<s>' }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.tool_calls is defined %}{% for c in m.tool_calls %}"
      "{{ 'Call ' + c.function.name + ' ' + (c.function.arguments | tojson) + '\n' }}{% endfor %}{% else %}{{ m.content + '<|im_end|>' }}"
      "{% endif %}{% endfor %}{{ '<|im_start|>system\nWrite what is to be called, as a list, or an answer to the last question.<|im_end|>' "
      "}}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  const auto call = [](const char* of) {
    return Json{{"role", "assistant"},
                {"content", ""},
                {"tool_calls", {{{"type", "function"}, {"function", {{"name", "f"}, {"arguments", {{"of", of}}}}}}}}};
  };
  Json messages = Json::array({{{"role", "user"}, {"content", "One?"}}, call("one")});
  const auto trained = [&] {  // each run of labels as text
    const Example example = encode(source, messages, tokenizer);
    std::vector<std::string> runs;
    for (size_t i = 0; i < example.labels.size(); ++i) {
      if (example.labels[i] == kIgnoreLabel) continue;
      if (i == 0 || example.labels[i - 1] == kIgnoreLabel) runs.emplace_back();
      runs.back() += tokenizer.decode(std::vector<int32_t>{example.labels[i]}, false);
    }
    return runs;
  };
  const std::string one = "Call f {\"of\": \"one\"}\n", two = "Call f {\"of\": \"two\"}\n";
  EXPECT_EQ(trained(), std::vector{one});
  messages.push_back({{"role", "tool"}, {"content", "1"}});
  messages.push_back({{"role", "assistant"}, {"content", "It is 1."}});
  EXPECT_EQ(trained(), (std::vector<std::string>{one, "It is 1.<|im_end|>"}));
  messages.push_back({{"role", "user"}, {"content", "Two?"}});
  messages.push_back(call("two"));
  EXPECT_EQ(trained(), (std::vector<std::string>{one, "It is 1.<|im_end|>", two}));
  messages = Json::array({{{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", "Hi"}}});
  EXPECT_EQ(trained(), std::vector<std::string>{"Hi<|im_end|>"});
}

TEST(ChatEncode, AHeaderThatNobodyAskedForIsNotTrained) {  // as Llama 3's first template writes it behind every conversation
  const MarkerTokenizer tokenizer;
  const Json special = {{"bos_token", "<s>"}};
  const std::string asked = with_blocks(false), condition = "{% if add_generation_prompt %}";
  std::string always = asked;
  always.erase(always.find(condition), condition.size());
  always.erase(always.rfind("{% endif %}"), 11);
  for (const int answers : {1, 2, 3, 20}) {
    const Json messages = conversation(answers, false);
    const auto encoded = [&](const std::string& source) {
      return encode_with_chat_template(ChatTemplate(source, special, "template"), tokenizer, messages, Json::object(),
                                       {.cutoff_len = 1 << 24})
          .example;
    };
    EXPECT_EQ(encoded(always).input_ids, encoded(asked).input_ids);
    EXPECT_EQ(encoded(always).labels, encoded(asked).labels);
  }
}

TEST(ChatEncode, SpelledSpecialTokensAreTextWhenSplit) {
  const MarkerTokenizer tokenizer;
  EncodeOptions split;
  split.split_special_tokens = true;
  for (const bool blocks : {false, true}) {
    const Json messages = conversation(3, false);
    const Example taken = encode(with_blocks(blocks), messages, tokenizer), plain = encode(with_blocks(blocks), messages, tokenizer, split);
    const auto starts = [](const Example& e) { return std::count(e.input_ids.begin(), e.input_ids.end(), 257); };
    EXPECT_EQ(starts(taken) - starts(plain), 3);  // the three that the questions spell
    EXPECT_EQ(std::count(plain.labels.begin(), plain.labels.end(), 258), 3);
    EXPECT_EQ(tokenizer.decode(taken.input_ids, false), tokenizer.decode(plain.input_ids, false));
  }
}

TEST(ChatEncode, FourHundredTurnsAreLinear) {
  const auto seconds = [](int answers) {
    const MarkerTokenizer tokenizer;
    const Json messages = conversation(answers, false);
    const auto begin = std::chrono::steady_clock::now();
    const Example example = encode(with_blocks(false), messages, tokenizer);
    EXPECT_EQ(std::count(example.labels.begin(), example.labels.end(), 258), answers);
    EXPECT_LT(tokenizer.bytes_encoded, 4 * example.input_ids.size() + 40 * static_cast<size_t>(answers) * 4);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  seconds(50);
  const double some = seconds(100), many = seconds(400);
  std::printf("100 answers %.1f ms, 400 answers %.1f ms\n", some * 1e3, many * 1e3);
  EXPECT_EQ(encode(with_blocks(true), conversation(400, false), MarkerTokenizer()).labels,
            encode(with_blocks(false), conversation(400, false), MarkerTokenizer()).labels);
}

TEST(ChatEncode, LastTurnWrittenDifferently) {  // thoughts stay in the last answer only, as Qwen 3's template does
  const std::string source =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% set c = m.content %}{% if m.role == 'assistant' and not loop.last %}"
      "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ c + '<|im_end|>\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  Json messages = Json::array();
  for (int i = 0; i < 6; ++i) {
    messages.push_back({{"role", "user"}, {"content", "q" + std::to_string(i)}});
    messages.push_back({{"role", "assistant"}, {"content", (i % 2 ? "<think>\nt\n</think>\n\n" : "") + ("a" + std::to_string(i))}});
  }
  const MarkerTokenizer tokenizer;
  const Example example = encode(source, messages, tokenizer);
  std::string trained;
  for (size_t i = 0; i < example.labels.size(); ++i)
    if (example.labels[i] != kIgnoreLabel) trained += tokenizer.decode(std::vector<int32_t>{example.labels[i]}, false);
  EXPECT_EQ(trained, "a0<|im_end|>\na1<|im_end|>\na2<|im_end|>\na3<|im_end|>\na4<|im_end|>\n<think>\nt\n</think>\n\na5<|im_end|>\n");
}

std::string trained_text(const std::string& source, const Json& messages, const Json& kwargs = Json::object()) {
  const MarkerTokenizer tokenizer;
  EncodeOptions options;
  options.cutoff_len = 1 << 24;
  const Example example =
      encode_with_chat_template(ChatTemplate(source, Json::object(), "template"), tokenizer, messages, kwargs, options).example;
  std::string trained;
  for (size_t i = 0; i < example.labels.size(); ++i)
    if (example.labels[i] != kIgnoreLabel) trained += tokenizer.decode(std::vector<int32_t>{example.labels[i]}, false);
  return trained;
}

// A question, a call with its result, an answer; and `more` questions with answers behind them.
Json calling(int more, const Json& arguments = {{"word", "blue"}}) {
  Json call = {{"type", "function"}, {"function", {{"name", "look"}, {"arguments", arguments}}}};
  Json messages = {{{"role", "user"}, {"content", "q0"}},
                   {{"role", "assistant"}, {"content", ""}, {"tool_calls", Json::array({call})}},
                   {{"role", "tool"}, {"content", "{\"found\": 1}"}},
                   {{"role", "assistant"}, {"content", "a0"}}};
  for (int i = 1; i <= more; ++i) {
    messages.push_back({{"role", "user"}, {"content", "q" + std::to_string(i)}});
    messages.push_back({{"role", "assistant"}, {"content", "a" + std::to_string(i)}});
  }
  return messages;
}

const std::string kCall = R"({"name": "look", "arguments": {"word": "blue"}})";

TEST(ChatEncode, WhatMovesToTheLastQuestion) {  // the system text and the tools, as in Mistral's templates; calls have to have ids there
  const std::string source =
      "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set turns = messages[1:] %}{% else %}{% set turns = "
      "messages %}{% endif %}{% set asked = turns | selectattr('role', 'equalto', 'user') | list %}{{ '<s>' }}{% for m in turns %}"
      "{% if m.role == 'user' %}{% if tools and m == asked[-1] %}{{ '[TOOLS]' ~ (tools | tojson) }}{% endif %}{{ '[Q]' }}"
      "{% if s and loop.last %}{{ s + '\n\n' }}{% endif %}{{ m.content + '[/Q]' }}{% elif m.tool_calls %}{% for c in m.tool_calls %}"
      "{% if c.id | length != 9 %}{{ raise_exception('ids of nine letters') }}{% endif %}{{ '[CALL]' ~ (c.function | tojson) ~ c.id }}"
      "{% endfor %}{{ '<|im_end|>' }}{% elif m.role == 'tool' %}{{ '[RESULT]' ~ m.content ~ m.tool_call_id ~ '[/RESULT]' }}"
      "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}";
  Json talk = {{{"role", "system"}, {"content", "Be kind."}}};
  std::string wanted;
  for (int i = 0; i < 4; ++i) {
    talk.push_back({{"role", "user"}, {"content", "q" + std::to_string(i)}});
    talk.push_back({{"role", "assistant"}, {"content", "a" + std::to_string(i)}});
    wanted += "a" + std::to_string(i) + "<|im_end|>";
    EXPECT_EQ(trained_text(source, talk), wanted);
  }
  const Json with_tools = {{"tools", Json::array({{{"type", "function"}, {"function", {{"name", "look"}}}}})}};
  EXPECT_EQ(trained_text(source, calling(0), with_tools), "[CALL]" + kCall + "call00000<|im_end|>a0<|im_end|>");
  EXPECT_EQ(trained_text(source, calling(2), with_tools), "[CALL]" + kCall + "call00000<|im_end|>a0<|im_end|>a1<|im_end|>a2<|im_end|>");
  Json twice = calling(0);
  for (const Json& message : calling(0)) twice.push_back(message);
  EXPECT_EQ(trained_text(source, twice, with_tools),
            "[CALL]" + kCall + "call00000<|im_end|>a0<|im_end|>[CALL]" + kCall + "call00001<|im_end|>a0<|im_end|>");
}

const std::string kThinking =  // THOUGHT: where an empty thought stands
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and THOUGHT %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ '<tool_call>' ~ (c.function | tojson) ~ '</tool_call>' }}{% endfor %}"
    "{% if m.role == 'tool' and not loop.last %}{{ LINE_END }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\nPROMPT' }}{% endif %}";

std::string thinking(const std::string& thought, const std::string& prompt, const std::string& line_end = "''") {
  std::string source = kThinking;
  for (const auto& [word, text] : {std::pair<std::string, std::string>{"THOUGHT", thought}, {"PROMPT", prompt}, {"LINE_END", line_end}})
    source.replace(source.find(word), word.size(), text);
  return source;
}

TEST(ChatEncode, ArgumentsAsTheTemplateTakesThem) {
  const auto source = [](const std::string& arguments) {
    return "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name + ' "
           "' }}" +
           arguments + "{% endfor %}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  };
  for (const Json& arguments : {Json({{"word", "blue"}}), Json("{\"word\": \"blue\"}")}) {
    for (const char* writing : {"{{ c.function.arguments | tojson }}", "{{ '' + c.function.arguments }}"})
      EXPECT_EQ(trained_text(source(writing), calling(0, arguments)), "look {\"word\": \"blue\"}<|im_end|>a0<|im_end|>") << writing;
    EXPECT_EQ(trained_text(source("{% for k, v in c.function.arguments.items() %}{{ k ~ '=' ~ v }}{% endfor %}"), calling(0, arguments)),
              "look word=blue<|im_end|>a0<|im_end|>");
  }
  // One that knows no calls trains no empty answer in their place.
  const std::string unaware =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  try {
    trained_text(unaware, calling(0));
    ADD_FAILURE();
  } catch (const Error& error) { EXPECT_NE(std::string(error.what()).find("nothing of the call of look in message 2"), std::string::npos); }
}

TEST(ChatEncode, CallsOfTemplatesThatWriteTheLastTurnOtherwise) {
  const std::string call = "<tool_call>" + kCall + "</tool_call><|im_end|>\n", empty = "<think>\n\n</think>\n\n";
  // Qwen 3: an empty thought before the last message alone.
  const std::string last = thinking("loop.last", "");
  EXPECT_EQ(trained_text(last, calling(0)), call + empty + "a0<|im_end|>\n");
  EXPECT_EQ(trained_text(last, calling(1)), call + "a0<|im_end|>\n" + empty + "a1<|im_end|>\n");
  // Qwen 3.5: before all behind the last question, and the head of an answer opens one.
  const std::string behind = thinking("loop.index0 > ns.last", "<think>\\n");
  EXPECT_EQ(trained_text(behind, calling(2)), call + "a0<|im_end|>\na1<|im_end|>\n\n</think>\n\na2<|im_end|>\n");
  // A call without arguments.
  EXPECT_EQ(trained_text(last, calling(0, Json::object())),
            "<tool_call>{\"name\": \"look\", \"arguments\": {}}</tool_call><|im_end|>\n" + empty + "a0<|im_end|>\n");
  // Hermes: a result ends otherwise where something follows.
  EXPECT_EQ(trained_text(thinking("false", "", "'\\n'"), calling(1)), call + "a0<|im_end|>\na1<|im_end|>\n");
}

}  // namespace
}  // namespace loraine::chat_encode_test
