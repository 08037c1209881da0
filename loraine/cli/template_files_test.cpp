// Named templates as other programs read them: the Jinja texts render as LLaMA-Factory's do, and all files name the same special tokens.
#include "loraine/cli/template_files.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "loraine/text/chat_template.h"

namespace loraine::template_files_test {
namespace {

using OrderedJson = nlohmann::ordered_json;

const char* kTokenizer = R"({"added_tokens":[{"id":0,"content":"<s>","special":true},{"id":1,"content":"</s>","special":true}],)"
                         R"("model":{"type":"BPE","vocab":{"<s>":0,"</s>":1,"a":2,"<|im_end|>":3},"merges":[]}})";

struct Named {
  std::unique_ptr<Tokenizer> tokenizer = Tokenizer::from_json(kTokenizer, "small");
  SpecialTokens special{0, 1, std::nullopt, {1}};
  Template chat;
  explicit Named(const std::string& name, const std::optional<std::string>& default_system = {})
      : chat(named_template(name, default_system)) {
    apply_template_tokens(chat, *tokenizer, special);
  }
};

TEST(TemplateFiles, JinjaRendersAsLlamaFactorys) {
  std::ifstream in(std::string(LORAINE_SOURCE_DIR) + "/tests/golden/templates/cases.json");
  const OrderedJson cases = OrderedJson::parse(in);
  std::set<std::string> seen;
  for (const OrderedJson& c : cases) {
    const std::string name = c["template"];
    seen.insert(name);
    const Named named(name, c["default_system"].is_null() ? std::nullopt : std::optional(c["default_system"].get<std::string>()));
    const ChatTemplate chat(jinja_of_template(named.chat, *named.tokenizer, named.special), OrderedJson::object(), name);
    EXPECT_EQ(chat.render(c["messages"], OrderedJson::object()).text, c["rendered"].get<std::string>())
        << name << " " << c["default_system"];
  }
  EXPECT_GE(seen.size(), 14u);
}

TEST(TemplateFiles, EveryTemplateRenders) {
  const OrderedJson talk = {
      {{"role", "system"}, {"content", "S9"}}, {{"role", "user"}, {"content", "Q7"}}, {{"role", "assistant"}, {"content", "A3"}}};
  EXPECT_GE(template_names().size(), 121u);
  for (const std::string& name : template_names()) {
    const Named named(name);
    const ChatTemplate chat(jinja_of_template(named.chat, *named.tokenizer, named.special), OrderedJson::object(), name);
    const std::string text = chat.render(talk, OrderedJson::object()).text,
                      modelfile = modelfile_of_template(named.chat, *named.tokenizer, named.special);
    const size_t asked = text.find("Q7"), answered = text.find("A3");
    EXPECT_TRUE(asked != std::string::npos && answered != std::string::npos && asked < answered) << name << ": " << text;
    EXPECT_NE(text.find("S9"), std::string::npos) << name << ": " << text;
    EXPECT_NE(modelfile.find("{{ .Content }}"), std::string::npos) << name << ": " << modelfile;
  }
}

TEST(TemplateFiles, AnySystemTextIsTextInJinja) {
  const std::string system = "C:\\new 'it' {{content}} %} \n";
  const Named named("qwen", system);
  const ChatTemplate chat(jinja_of_template(named.chat, *named.tokenizer, named.special), OrderedJson::object(), "qwen");
  const std::string text = chat.render({{{"role", "user"}, {"content", "hi"}}}, OrderedJson::object()).text;
  EXPECT_EQ(text, "<|im_start|>system\n" + system + "<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

ModelFiles files_with(Json config) {
  ModelFiles files;
  files.tokenizer_json = kTokenizer;
  files.tokenizer_config = std::move(config);
  return files;
}

TEST(TemplateFiles, NewTokensStandInEveryFile) {
  Named named("llama3");
  ModelFiles files = files_with({{"eos_token", "</s>"},
                                 {"additional_special_tokens", {"<s>"}},
                                 {"added_tokens_decoder", {{"0", {{"content", "<s>"}, {"special", true}}}}}});
  apply_template_to_files(files, named.chat, *named.tokenizer, named.special, "right");
  const Json& config = *files.tokenizer_config;
  EXPECT_EQ(config["eos_token"], "<|eot_id|>");
  EXPECT_EQ(config["pad_token"], "<|eot_id|>");
  EXPECT_EQ(config["additional_special_tokens"], Json({"<s>", "<|eom_id|>"}));
  EXPECT_EQ(config["added_tokens_decoder"]["4"]["content"], "<|eot_id|>");
  EXPECT_EQ(config["added_tokens_decoder"]["4"]["special"], true);
  EXPECT_EQ(config["padding_side"], "right");
  EXPECT_TRUE(files.chat_template);
  auto saved = Tokenizer::from_json(*files.tokenizer_json, "saved");
  EXPECT_EQ(saved->encode("a<|eot_id|><|eom_id|>"), named.tokenizer->encode("a<|eot_id|><|eom_id|>"));
  EXPECT_EQ(saved->token_to_id("<|eot_id|>"), named.special.eos);
}

TEST(TemplateFiles, ATokenOfTheVocabularyBecomesSpecialInTheFile) {
  Named named("qwen");
  ModelFiles files = files_with({{"eos_token", {{"content", "</s>"}}}, {"pad_token", {{"content", "<s>"}}}});
  named.special.pad = 0;
  apply_template_to_files(files, named.chat, *named.tokenizer, named.special, "left");
  EXPECT_EQ((*files.tokenizer_config)["eos_token"], "<|im_end|>");
  EXPECT_TRUE((*files.tokenizer_config)["pad_token"].is_object());  // says so already
  EXPECT_EQ(Tokenizer::from_json(*files.tokenizer_json, "saved")->encode("<|im_end|>a"), (std::vector<int32_t>{3, 2}));
}

TEST(TemplateFiles, TheModelsOwnTemplateStaysUnlessTheNameStandsForAFormat) {
  for (const char* name : {"qwen", "chatml"}) {
    Named named(name);
    ModelFiles files = files_with(Json::object());
    files.chat_template = "own";
    files.chat_templates = {{"default", "own"}, {"tool_use", "tools"}};
    apply_template_to_files(files, named.chat, *named.tokenizer, named.special, "left");
    EXPECT_EQ(files.chat_template == "own", std::string(name) == "qwen");
    EXPECT_EQ(files.chat_templates.size(), std::string(name) == "qwen" ? 2u : 0u);
  }
  Named named("gemma");
  ModelFiles files = files_with(Json::object());
  files.chat_templates = {{"rag", "r"}, {"tool_use", "tools"}};  // none that counts
  apply_template_to_files(files, named.chat, *named.tokenizer, named.special, "left");
  EXPECT_EQ(files.chat_templates.back().name, "default");
}

}  // namespace
}  // namespace loraine::template_files_test
