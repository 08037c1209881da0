// Models as folders: shards, their index, chat templates.
#include "loraine/io/model_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/safetensors/safetensors.h"

namespace loraine {
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

}  // namespace
}  // namespace loraine
