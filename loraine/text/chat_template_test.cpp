// ChatTemplate against what transformers' apply_chat_template gives.
#include "loraine/text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>

#include "loraine/core/error.h"

namespace loraine::chat_template_test {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

const fs::path kGolden = fs::path(LORAINE_SOURCE_DIR) / "../shared/golden/chat_templates";

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string unxz(const fs::path& path) {
  std::string out, command = "xz -dc '" + path.string() + "'";
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[65536];
  for (size_t n; pipe && (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, n);
  if (pipe) pclose(pipe);
  return out;
}

size_t code_points(const std::string& text, size_t bytes) {
  size_t n = 0;
  for (size_t k = 0; k < bytes; ++k) n += (text[k] & 0xc0) != 0x80;
  return n;
}

Json conversation(size_t count) {
  const char* texts[] = {"how", "so", "why", "thus"};
  Json messages = Json::array();
  for (size_t i = 0; i < count; ++i) messages.push_back({{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", texts[i]}});
  return messages;
}

TEST(ChatTemplate, HeaderThatNobodyAskedFor) {
  // Llama 3's first template, and one that writes nothing behind a turn.
  const Json bos = {{"bos_token", "<|begin_of_text|>"}};
  const ChatTemplate llama3(
      "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
      "message['content'] | "
      "trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
      "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
      bos, "llama3");
  EXPECT_EQ(llama3.unasked_header(), "<|start_header_id|>assistant<|end_header_id|>\n\n");
  const std::string whole = llama3.render(conversation(2), Json::object()).text;
  EXPECT_EQ(llama3.render_turns(conversation(2), Json::object()).text + llama3.unasked_header(), whole);
  EXPECT_TRUE(llama3.render_turns(conversation(2), Json::object()).text.ends_with("so<|eot_id|>"));
  EXPECT_EQ(llama3.render_turns(conversation(1), {{"add_generation_prompt", true}}).text,
            llama3.render(conversation(1), Json::object()).text);
  const char* without[] = {
      "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</{{ m['role'] }}>{% endfor %}",
      "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
      "{% for m in messages %}{% if m['role'] == 'user' %}Q: {{ m['content'] }} A: {% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}",
      "{{ raise_exception('no') }}",
  };
  for (const char* text : without) {
    const ChatTemplate chat(text, Json::object(), "none");
    EXPECT_EQ(chat.unasked_header(), "") << text;
  }
}

TEST(ChatTemplate, HeaderBehindAPreamble) {  // as Command R7B writes it, by what is said of thoughts
  const ChatTemplate chat(
      "{{ bos_token }}<t><sys>You are kind.</t>{% for m in messages %}{% if m.role == 'user' %}<t><q>{{ m.content }}</t>{% else %}"
      "<t><a><r>{{ m.content }}</r></t>{% endif %}{% endfor %}<t><a>{% if not enable_thinking %}<th></th>{% endif %}",
      {{"bos_token", "<s>"}}, "preamble");
  EXPECT_EQ(chat.unasked_header(), "<t><a><th></th>");
  for (const bool thinks : {false, true})
    EXPECT_TRUE(chat.render_turns(conversation(2), {{"enable_thinking", thinks}}).text.ends_with("<t><a><r>so</r></t>")) << thinks;
  // What stands at the end of every conversation and begins no answer is no header.
  const ChatTemplate ended("{% for m in messages %}# {{ m.role }}: {{ m.content }}\n{% endfor %}</s>", Json::object(), "ended");
  EXPECT_EQ(ended.unasked_header(), "");
}

TEST(ChatTemplate, ListOfAdditionalTokens) {
  const ChatTemplate chat("{{ additional_special_tokens[1] }}{{ messages[0].content }}",
                          {{"additional_special_tokens", {"<a>", {{"content", "<b>"}}}}}, "list");
  EXPECT_EQ(chat.render(conversation(1), Json::object()).text, "<b>how");
}

TEST(ChatTemplate, GoldenCases) {
  if (!fs::exists(kGolden / "cases.jsonl.xz")) GTEST_SKIP() << "no " << kGolden;
  std::map<std::string, std::unique_ptr<ChatTemplate>> templates;
  std::istringstream lines(unxz(kGolden / "cases.jsonl.xz"));
  int total = 0, good = 0;
  for (std::string line; std::getline(lines, line); ++total) {
    Json c = Json::parse(line);
    std::string name = c["template_name"];
    auto& chat = templates[name];
    if (!chat) chat = std::make_unique<ChatTemplate>(read(kGolden / (name + ".jinja")), Json::object(), name);
    Json kwargs = c["kwargs"];
    if (c.contains("now")) kwargs["strftime_now"] = c["now"];
    std::string found, error;
    Json spans = Json::array();
    try {
      RenderedChat r = chat->render(c["messages"], kwargs);
      found = r.text;
      for (auto [begin, end] : r.generation) spans.push_back({code_points(found, begin), code_points(found, end)});
    } catch (const Error& e) { error = e.what(); }
    bool same;
    if (c.contains("error"))
      same = !error.empty() && (c["error_type"] != "TemplateError" || error.ends_with(": " + c["error"].get<std::string>()));
    else same = error.empty() && found == c["rendered"] && (!c.contains("generation_spans") || spans == c["generation_spans"]);
    good += same;
    EXPECT_TRUE(same) << name << " " << c["kind"] << "\n  found  " << error << found << spans << "\n  wanted " << c.value("rendered", "")
                      << c.value("error", "");
  }
  EXPECT_GT(total, 0);
  std::cout << good << " of " << total << " chat renderings equal\n";
}

TEST(ChatTemplate, SpecialTokensAndErrors) {
  ChatTemplate chat("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{{ raise_exception('no') if stop }}",
                    Json::parse(R"({"bos_token": {"content": "<s>"}})"), "t.jinja");
  Json messages = Json::parse(R"([{"role": "user", "content": "{{ 1 }}"}])");
  EXPECT_EQ(chat.render(messages, Json::object()).text, "<s>{{ 1 }}");
  EXPECT_FALSE(chat.render(messages, Json::object()).has_generation_blocks);
  try {
    chat.render(messages, {{"stop", true}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "t.jinja: line 1: no");
    EXPECT_EQ(e.kind, ErrorKind::bad_data);
  }
  EXPECT_THROW(ChatTemplate("{% if %}", Json::object(), "bad"), Error);
}

// transformers: `if tools is not None and "tool_use" in templates`.
TEST(ChatTemplate, ToolsHaveATemplateOfTheirOwn) {
  ChatTemplate chat("D", Json::object(), "t");
  const Json messages = Json::parse(R"([{"role": "user", "content": "a"}])");
  EXPECT_EQ(chat.render(messages, {{"tools", Json::array()}}).text, "D");
  chat.set_tools_template("{{ tools|length }}{% generation %}T{% endgeneration %}", "t (tool_use)");
  EXPECT_EQ(chat.render(messages, Json::object()).text, "D");
  EXPECT_EQ(chat.render(messages, {{"tools", nullptr}}).text, "D");
  EXPECT_EQ(chat.render(messages, {{"tools", Json::array()}}).text, "0T");
  EXPECT_TRUE(chat.render(messages, {{"tools", Json::array({1})}}).has_generation_blocks);
}

TEST(ChatTemplate, ContinuesTheFinalMessage) {
  ChatTemplate chat("{% for m in messages %}<{{ m.content|trim }}>{% endfor %}", Json::object(), "t");
  Json messages = Json::parse(R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b "}])");
  EXPECT_EQ(chat.render(messages, {{"continue_final_message", true}}).text, "<a><b");
  EXPECT_THROW(chat.render(messages, {{"continue_final_message", true}, {"add_generation_prompt", true}}), Error);
}

}  // namespace
}  // namespace loraine::chat_template_test
