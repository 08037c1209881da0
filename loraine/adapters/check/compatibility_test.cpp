// What is said of an adapter, and which programs load it: each rule with an adapter that breaks it.
#include "loraine/adapters/check/compatibility.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "loraine/adapters/stored/write_low_rank.h"
#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/safetensors/safetensors.h"
#include "tests/support/op_check.h"

namespace loraine::compatibility_test {
namespace {

namespace fs = std::filesystem;

struct Compatibility : testing::Test {
  void SetUp() override { fs::create_directories(work); }
  void TearDown() override { fs::remove_all(work); }
  // A plain adapter of rank 4, with changes of its config and more tensors [2].
  AdapterFacts facts(const Json& changes = Json::object(), const std::vector<std::string>& more = {}, int64_t r = 4) {
    const std::string folder = (work / "adapter").string();
    std::vector<float> a = random_floats(r * 6, 1), b = random_floats(8 * r, 2), x(2);
    std::vector<std::pair<std::string, Tensor>> tensors = {
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", Tensor(a.data(), Dtype::F32, {r, 6})},
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", Tensor(b.data(), Dtype::F32, {8, r})}};
    for (const std::string& name : more) tensors.emplace_back("base_model.model." + name, Tensor(x.data(), Dtype::F32, {2}));
    fs::create_directories(folder);
    write_safetensors(folder + "/adapter_model.safetensors", tensors, {{"format", "pt"}});
    Json config = {
        {"peft_type", "LORA"},     {"r", r}, {"lora_alpha", 8}, {"target_modules", {"q_proj"}}, {"base_model_name_or_path", "org/base"},
        {"peft_version", "0.18.1"}};
    if (changes.is_object()) config.update(changes);
    write_file(folder + "/adapter_config.json", config.dump());
    return read_adapter_facts(folder);
  }
  fs::path work = fs::temp_directory_path() / ("loraine_compatibility_" + std::to_string(getpid()));
};

// The verdict on `program`, the first of several versions, or the last.
ProgramVerdict on(const AdapterFacts& facts, const std::string& program, bool newest = true) {
  const std::vector<ProgramVerdict> all = check_compatibility(facts, {program});
  return newest ? all.back() : all.front();
}

TEST_F(Compatibility, FactsOfAPlainAdapter) {
  const AdapterFacts f = facts();
  EXPECT_EQ(f.method, "lora");
  EXPECT_EQ(*f.r, 4);
  EXPECT_EQ(*f.alpha, 8);
  EXPECT_EQ(f.targets, std::vector<std::string>{"q_proj"});
  EXPECT_EQ(f.modules, 1);
  EXPECT_EQ(f.parameters, 24 + 32);
  EXPECT_EQ(f.dtypes, std::vector<std::string>{"F32"});
  EXPECT_EQ(f.base, "org/base");
  for (const ProgramVerdict& v : check_compatibility(f))
    EXPECT_EQ(v.verdict, v.program == "mlx-lm" ? LoadVerdict::with_option : LoadVerdict::loads) << v.program << v.version;
  EXPECT_EQ(facts({{"use_dora", true}, {"use_rslora", true}}).method, "dora, rslora");
  EXPECT_EQ(facts({{"init_lora_weights", "pissa_niter_16"}}).method, "pissa");
  EXPECT_EQ(facts({{"peft_type", "LOHA"}}).method, "loha");
  EXPECT_EQ(find_adapters(work.string()), std::vector<std::string>{(work / "adapter").string()});
}

TEST_F(Compatibility, WhatServersRefuse) {
  const AdapterFacts dora = facts({{"use_dora", true}}, {"model.layers.0.self_attn.q_proj.lora_magnitude_vector"});
  const AdapterFacts saved = facts({{"modules_to_save", {"lm_head"}}}, {"lm_head.weight"});
  const AdapterFacts bias = facts({{"bias", "lora_only"}}, {"model.layers.0.self_attn.q_proj.base_layer.bias"});
  for (const char* program : {"vllm", "sglang", "llama.cpp", "mlx-lm"})
    EXPECT_EQ(on(dora, program).verdict, LoadVerdict::refuses) << program;
  for (const char* program : {"vllm", "llama.cpp", "mlx-lm"}) EXPECT_EQ(on(saved, program).verdict, LoadVerdict::refuses) << program;
  EXPECT_EQ(on(saved, "sglang").verdict, LoadVerdict::differs);
  EXPECT_EQ(on(bias, "vllm").verdict, LoadVerdict::refuses);
  EXPECT_EQ(on(dora, "peft").verdict, LoadVerdict::loads);
  EXPECT_EQ(on(dora, "loraine").verdict, LoadVerdict::loads);
  EXPECT_NE(on(dora, "vllm").reasons[0].find("use_dora"), std::string::npos);
}

TEST_F(Compatibility, RanksAndScales) {
  EXPECT_EQ(on(facts({}, {}, 20), "vllm").option, "--max-lora-rank 32");
  EXPECT_EQ(on(facts({}, {}, 600), "vllm").verdict, LoadVerdict::refuses);
  const AdapterFacts rslora = facts({{"use_rslora", true}});
  EXPECT_EQ(on(rslora, "vllm").verdict, LoadVerdict::loads);
  EXPECT_EQ(on(rslora, "sglang").verdict, LoadVerdict::differs);
  EXPECT_EQ(on(rslora, "llama.cpp").verdict, LoadVerdict::differs);
  const AdapterFacts pattern = facts({{"alpha_pattern", {{"q_proj", 2}}}});
  EXPECT_EQ(on(pattern, "vllm", false).verdict, LoadVerdict::differs);
  EXPECT_EQ(on(pattern, "vllm").verdict, LoadVerdict::loads);
  EXPECT_EQ(on(pattern, "llama.cpp").verdict, LoadVerdict::differs);
}

TEST_F(Compatibility, StartsThatChangeTheBase) {
  const AdapterFacts pissa = facts({{"init_lora_weights", "pissa"}});
  EXPECT_EQ(on(pissa, "vllm", false).verdict, LoadVerdict::differs);
  EXPECT_EQ(on(pissa, "vllm").verdict, LoadVerdict::refuses);
  EXPECT_EQ(on(pissa, "llama.cpp").verdict, LoadVerdict::differs);
  EXPECT_EQ(on(pissa, "peft").verdict, LoadVerdict::loads);
  EXPECT_EQ(on(facts({{"init_lora_weights", "pissa_niter_4"}}), "peft").verdict, LoadVerdict::differs);
}

TEST_F(Compatibility, VersionsAndOtherMethods) {
  EXPECT_EQ(on(facts({{"use_bdlora", {{"x", 1}}}}), "peft").version, "0.19 to 0.21");
  EXPECT_EQ(on(facts({{"use_bdlora", {{"x", 1}}}}), "loraine").verdict, LoadVerdict::refuses);
  EXPECT_EQ(on(facts({{"target_modules", ".*q_proj"}}), "sglang").verdict, LoadVerdict::refuses);
  const AdapterFacts loha = facts({{"peft_type", "LOHA"}});
  EXPECT_EQ(on(loha, "vllm").verdict, LoadVerdict::refuses);
  EXPECT_EQ(on(loha, "loraine").verdict, LoadVerdict::loads);
  EXPECT_EQ(on(facts({{"peft_type", "XLORA"}}), "loraine").verdict, LoadVerdict::refuses);
  AdapterFacts oft = facts({{"peft_type", "OFT"}, {"use_cayley_neumann", true}});
  oft.method = "oft";
  oft.peft_version = "0.18.1";
  EXPECT_EQ(on(oft, "peft").verdict, LoadVerdict::loads);
  EXPECT_EQ(on(oft, "peft").version, "0.18 to 0.21");
  for (const char* before : {"", "0.17.1"}) {
    oft.peft_version = before;
    EXPECT_EQ(on(oft, "peft").verdict, LoadVerdict::differs) << before;
    EXPECT_NE(on(oft, "peft").reasons[0].find("0.18"), std::string::npos);
  }
  oft.config["use_cayley_neumann"] = false;  // the exact form has not changed
  EXPECT_EQ(on(oft, "peft").verdict, LoadVerdict::loads);
  EXPECT_THROW(check_compatibility(loha, {"ollama"}), Error);
  const AdapterFacts tokens = facts({{"trainable_token_indices", {1, 2}}}, {"model.embed_tokens.token_adapter.trainable_tokens_delta"});
  EXPECT_EQ(on(tokens, "vllm").verdict, LoadVerdict::refuses);
  EXPECT_TRUE(tokens.whole.empty());
}

TEST_F(Compatibility, BadFoldersAreNamed) {
  EXPECT_THROW(find_adapters((work / "absent").string()), Error);
  facts();
  write_file((work / "adapter/adapter_config.json").string(), R"({"r": 4})");
  EXPECT_THROW(read_adapter_facts((work / "adapter").string()), Error);
  write_file((work / "adapter/adapter_config.json").string(), R"({"peft_type": "LORA"})");
  write_file((work / "adapter/adapter_model.safetensors").string(), "cut");
  EXPECT_THROW(read_adapter_facts((work / "adapter").string()), Error);
}

}  // namespace
}  // namespace loraine::compatibility_test
