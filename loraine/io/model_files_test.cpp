// Models as folders: shards, their index, chat templates.
#include "loraine/io/model_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/safetensors/safetensors.h"
#include "loraine/io/write_text_files.h"

namespace loraine::model_files_test {
namespace {

std::string folder() {
  static std::string made = [] {
    char name[] = "/tmp/loraine_model_files_XXXXXX";
    return std::string(mkdtemp(name));
  }();
  return made;
}

TEST(Sharded, IndexIsChecked) {
  std::string model = folder() + "/sharded";
  make_folders(model);
  float x[4] = {1, 2, 3, 4};
  auto shard = [&](const std::string& name, std::vector<std::string> tensors) {
    std::vector<std::pair<std::string, Tensor>> all;
    for (auto& tensor : tensors) all.push_back({tensor, Tensor(x, Dtype::F32, {4})});
    write_safetensors(model + "/" + name, all, {});
  };
  auto open = [&](const std::string& weight_map) -> std::string {
    write_file(model + "/model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":" + weight_map + "}");
    try {
      return std::to_string(open_tensor_source(model)->tensors().size());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, ErrorKind::bad_data);
      return error.what();
    }
  };
  shard("1.safetensors", {"a", "b"});
  shard("2.safetensors", {"c"});
  shard("3.safetensors", {"b"});
  write_safetensors(folder() + "/outside.safetensors", {{"c", Tensor(x, Dtype::F32, {4})}}, {});
  EXPECT_EQ(open(R"({"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"})"), "3");
  EXPECT_NE(open(R"({"a":"1.safetensors","c":"4.safetensors"})").find("no such file"), std::string::npos);
  EXPECT_NE(open(R"({"a":"1.safetensors","c":"../outside.safetensors"})").find("same folder"), std::string::npos);
  EXPECT_NE(open("{\"c\":\"" + folder() + "/outside.safetensors\"}").find("same folder"), std::string::npos);
  EXPECT_NE(open(R"({"a":"1.safetensors","b":"3.safetensors"})").find("is in both"), std::string::npos);
  EXPECT_NE(open(R"({"c":"1.safetensors"})").find("is not"), std::string::npos);
  EXPECT_NE(open(R"({"a":"1.safetensors","a":"2.safetensors"})").find("twice"), std::string::npos);
  EXPECT_NE(open(R"({"a":7})").find("not a string"), std::string::npos);
  EXPECT_NE(open("[]").find("weight_map"), std::string::npos);
}

TEST(ModelFiles, ChatTemplatesOfAFolder) {
  std::string model = folder() + "/hf";
  make_folders(model);
  float x = 1;
  EXPECT_THROW(open_model_files(model), Error);
  write_file(model + "/config.json", R"({"model_type":"llama"})");
  write_safetensors(model + "/model.safetensors", {{"a", Tensor(&x, Dtype::F32, {1})}}, {});
  EXPECT_FALSE(open_model_files(model).chat_template);
  write_file(model + "/tokenizer_config.json", R"({"chat_template":[{"name":"tool","template":"T"},{"name":"default","template":"D"}]})");
  EXPECT_EQ(open_model_files(model).chat_template, "D");
  write_file(model + "/chat_template.jinja", "J");
  ModelFiles files = open_model_files(model);
  EXPECT_EQ(files.chat_template, "J");
  EXPECT_EQ((*files.tokenizer_config)["chat_template"], "J");
  EXPECT_EQ(files.config["model_type"], "llama");
  EXPECT_THROW(open_model_files(folder() + "/nowhere"), Error);
}

std::string model_folder(const std::string& name) {
  const std::string model = folder() + "/" + name;
  make_folders(model);
  float x = 1;
  write_file(model + "/config.json", R"({"model_type":"llama"})");
  write_safetensors(model + "/model.safetensors", {{"a", Tensor(&x, Dtype::F32, {1})}}, {});
  return model;
}

TEST(ModelFiles, SeveralTemplatesAreAllKept) {
  const std::string model = model_folder("several"), config = model + "/tokenizer_config.json";
  write_file(config, R"({"chat_template":[{"name":"rag","template":"R"},{"name":"tool_use","template":"T"}]})");
  ModelFiles none = open_model_files(model);
  EXPECT_FALSE(none.chat_template);  // none is the default
  EXPECT_EQ(none.chat_templates.size(), 2u);
  write_file(config, R"({"chat_template":[{"name":"rag","template":"R"}]})");
  EXPECT_EQ(open_model_files(model).chat_template, "R");
  for (const char* name : {"../x", "", "a/b", ".x"}) {
    Json list = Json::array();
    list.push_back(Json{{"name", name}, {"template", "T"}});
    write_file(config, Json{{"chat_template", list}}.dump());
    EXPECT_THROW(open_model_files(model), Error) << name;
  }
  make_folders(model + "/additional_chat_templates");
  write_file(model + "/additional_chat_templates/tool_use.jinja", "T");
  write_file(model + "/chat_template.jinja", "D");
  ModelFiles files = open_model_files(model);
  EXPECT_EQ(files.chat_template, "D");
  ASSERT_EQ(files.chat_templates.size(), 2u);
  EXPECT_EQ(files.chat_templates[1].name, "tool_use");

  const std::string out = folder() + "/written";
  make_folders(out);
  write_tokenizer_files(files, out);
  EXPECT_EQ(read_file(out + "/chat_template.jinja"), "D");
  EXPECT_EQ(read_file(out + "/additional_chat_templates/tool_use.jinja"), "T");
  EXPECT_EQ(parse_json_file(out + "/tokenizer_config.json")["chat_template"],
            Json::parse(R"([{"name":"default","template":"D"},{"name":"tool_use","template":"T"}])"));
}

TEST(ModelFiles, WhatBelongsToTheModelTravels) {
  const std::string model = model_folder("whole"), out = folder() + "/copy";
  const std::pair<const char*, const char*> texts[] = {{"tokenizer.model", "\x0a\x01\xff"},
                                                       {"vocab.json", "{}"},
                                                       {"merges.txt", "#version: 0.2\n"},
                                                       {"special_tokens_map.json", "{ }"},
                                                       {"added_tokens.json", "{ }"},
                                                       {"LICENSE", "L"},
                                                       {"Notice.txt", "N"},
                                                       {"USE_POLICY.md", "U"}};
  for (const auto& [name, text] : texts) write_file(model + "/" + name, text);
  write_file(model + "/tokenizer.json", "{}");
  write_file(model + "/README.md", "of the base");
  write_file(
      model + "/tokenizer_config.json",
      R"({"tokenizer_class":"TokenizersBackend","extra_special_tokens":["<a>","<b>"],"additional_special_tokens":["<b>"],"chat_template":"J"})");
  ModelFiles files = open_model_files(model);
  make_folders(out);
  write_tokenizer_files(files, out);
  write_config_files(files, files.config, out);
  for (const auto& [name, text] : texts) EXPECT_EQ(read_file(out + "/" + name), text) << name;
  EXPECT_THROW(read_file(out + "/README.md"), Error);
  // transformers 4 ends with an error at the newer spellings; 5 reads these too.
  EXPECT_EQ(parse_json_file(out + "/tokenizer_config.json"),
            Json::parse(R"({"tokenizer_class":"PreTrainedTokenizerFast","additional_special_tokens":["<b>","<a>"],"chat_template":"J"})"));
  EXPECT_EQ(read_file(out + "/chat_template.jinja"), "J");
  write_file(model + "/tokenizer_config.json", R"({"extra_special_tokens":{"image_token":"<i>"}})");
  write_tokenizer_files(open_model_files(model), out);
  EXPECT_EQ(parse_json_file(out + "/tokenizer_config.json"), Json::parse(R"({"extra_special_tokens":{"image_token":"<i>"}})"));
}

TEST(ModelFiles, TheMapOfSpecialTokensCountsAsInTransformers) {
  const std::string model = model_folder("map"), config = model + "/tokenizer_config.json";
  write_file(model + "/special_tokens_map.json", R"({"eos_token":{"content":"<e>"},"additional_special_tokens":["<a>","<b>"]})");
  EXPECT_EQ((*open_model_files(model).tokenizer_config)["eos_token"]["content"], "<e>");
  write_file(config, R"({"eos_token":"</s>","pad_token":"<p>","additional_special_tokens":["<b>"]})");
  const Json known = *open_model_files(model).tokenizer_config;
  EXPECT_EQ(known, Json::parse(R"({"eos_token":{"content":"<e>"},"pad_token":"<p>","additional_special_tokens":["<b>","<a>"]})"));
  write_file(config, R"({"eos_token":"</s>","added_tokens_decoder":{}})");
  EXPECT_EQ((*open_model_files(model).tokenizer_config)["eos_token"], "</s>");
  write_file(model + "/special_tokens_map.json", "[]");
  EXPECT_NO_THROW(open_model_files(model));
  write_file(config, "{}");
  EXPECT_THROW(open_model_files(model), Error);
}

TEST(ModelFiles, AGenerationConfigIsOneThatTransformersSaves) {
  const auto now = [](const std::string& text) { return consistent_generation_config(Json::parse(text)); };
  for (const char* key :
       {R"("temperature":0.9)", R"("top_p":0.6)", R"("top_k":20)", R"("min_p":0.1)", R"("typical_p":0.5)", R"("eta_cutoff":1e-3)"})
    for (const char* sample : {"", R"("do_sample":false,)", R"("do_sample":null,)"})
      EXPECT_EQ(now(std::string("{") + sample + key + "}")["do_sample"], true) << key;
  const char* greedy =
      R"({"do_sample":false,"temperature":1.0,"top_p":1,"top_k":50,"min_p":null,"eos_token_id":[2,4],"output_scores":false})";
  EXPECT_EQ(now(greedy), Json::parse(greedy));
  EXPECT_EQ(now(R"({"num_beams":1,"early_stopping":true,"length_penalty":2,"output_scores":true})"), Json::parse(R"({"num_beams":1})"));
  const char* beams = R"({"num_beams":4,"early_stopping":true,"length_penalty":2,"output_scores":true,"return_dict_in_generate":true})";
  EXPECT_EQ(now(beams), Json::parse(beams));
}

TEST(ModelFiles, ATokenizerOfVocabularyAndMerges) {
  const std::string model = model_folder("vocabulary");
  EXPECT_EQ(open_model_files(model).tokenizer_note, "");
  write_file(model + "/tokenizer.model", "spm");
  EXPECT_THROW(open_model_files(model), Error);  // no SentencePiece file; what follows comes before it
  write_file(model + "/vocab.json", R"({"a":0,"b":1,"ab":2,"</s>":3})");
  write_file(model + "/merges.txt", "#version: 0.2\r\na b\r\n\r\n");
  write_file(model + "/added_tokens.json", R"({"<x>":4})");
  write_file(model + "/tokenizer_config.json", R"({"tokenizer_class":"GPT2Tokenizer","eos_token":"</s>","pad_token":"<pad>"})");
  ModelFiles files = open_model_files(model);
  EXPECT_EQ(files.tokenizer_note, "");
  Json tokenizer = Json::parse(files.tokenizer_json.value());
  EXPECT_EQ(tokenizer["model"]["merges"], Json::parse(R"([["a","b"]])"));
  EXPECT_EQ(tokenizer["pre_tokenizer"]["use_regex"], true);
  std::string added;
  for (const Json& token : tokenizer["added_tokens"])
    added += token["content"].get<std::string>() + token["id"].dump() + (token["special"] == true ? "! " : " ");
  EXPECT_EQ(added, "</s>3! <x>4 <pad>5! ");
  write_file(model + "/tokenizer_config.json", R"({"tokenizer_class":"Qwen2TokenizerFast"})");
  tokenizer = Json::parse(open_model_files(model).tokenizer_json.value());
  EXPECT_EQ(tokenizer["normalizer"]["type"], "NFC");
  EXPECT_EQ(tokenizer["pre_tokenizer"]["pretokenizers"].size(), 2u);
  write_file(model + "/tokenizer_config.json", "{}");
  EXPECT_NE(open_model_files(model).tokenizer_note.find("GPT-2"), std::string::npos);  // assumed, so it is said
  write_file(model + "/tokenizer_config.json", R"({"tokenizer_class":"RobertaTokenizer"})");
  files = open_model_files(model);
  EXPECT_FALSE(files.tokenizer_json);
  EXPECT_NE(files.tokenizer_note.find("RobertaTokenizer"), std::string::npos);
  write_file(model + "/tokenizer_config.json", "{}");
  for (const char* merges : {"ab\n", "a \n", "\xff b\n"}) {
    write_file(model + "/merges.txt", merges);
    EXPECT_THROW(open_model_files(model), Error) << merges;
  }
  write_file(model + "/merges.txt", "a b\n");
  for (const char* added_tokens : {R"({"<x>":"4"})", R"({"<x>":-1})", R"({"<x>":99999999999})", R"({"":4})"}) {
    write_file(model + "/added_tokens.json", added_tokens);
    EXPECT_THROW(open_model_files(model), Error) << added_tokens;
  }
}

TEST(ModelFiles, ATokenizerOfOtherFiles) {
  const std::string golden = LORAINE_SOURCE_DIR "/tests/golden/tokenizers/", model = model_folder("other");
  write_file(model + "/tekken.json", read_file(golden + "tekken/tekken.json"));
  ModelFiles files = open_model_files(model);
  EXPECT_EQ(files.tokenizer_note, "");
  EXPECT_EQ((*files.tokenizer_config)["eos_token"], "</s>");
  EXPECT_EQ(Json::parse(files.tokenizer_json.value())["post_processor"]["special_tokens"]["<s>"]["ids"][0], 1);
  write_file(model + "/qwen.tiktoken", read_file(golden + "qwen_tiktoken/qwen.tiktoken"));
  EXPECT_EQ((*open_model_files(model).tokenizer_config)["eos_token"], "<|endoftext|>");  // it comes before tekken.json
  write_file(model + "/tokenizer.model", read_file(golden + "gemma/tokenizer.model"));
  write_file(model + "/tokenizer_config.json",
             R"({"tokenizer_class":"OtherTokenizerFast","eos_token":"<e>","pad_token":null,"add_bos_token":false})");
  files = open_model_files(model);
  EXPECT_NE(files.tokenizer_note.find("OtherTokenizer"), std::string::npos);  // assumed, so it is said
  EXPECT_EQ((*files.tokenizer_config)["bos_token"], "<bos>");
  EXPECT_EQ((*files.tokenizer_config)["eos_token"], "<e>");
  EXPECT_TRUE(Json::parse(files.tokenizer_json.value())["post_processor"].is_null());
  write_file(model + "/tokenizer_config.json", R"({"tokenizer_class":null,"eos_token":7})");
  EXPECT_EQ(open_model_files(model).tokenizer_note, "");
  write_file(model + "/tokenizer.model", "YQ== 0");
  EXPECT_THROW(open_model_files(model), Error);
}

}  // namespace
}  // namespace loraine::model_files_test
