// Files as LLaMA-Factory's examples/v1 has them, and what they say in loraine's keys.
#include "loraine/cli/settings/v1_settings.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "loraine/cli/settings/arguments.h"
#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::v1_settings_test {
namespace {

using Json = nlohmann::json;

const std::string kLora =
    "model: Qwen/Qwen3-4B\nmodel_class: llm\n"
    "peft_config:\n  name: lora\n  r: 16\n  lora_alpha: 32\n  lora_dropout: 0.05\n  target_modules: all\n"
    "kernel_config:\n  name: auto\ndist_config:\n  name: fsdp2\n  dcp_path: null\n"
    "train_dataset: rows.json\noutput_dir: ./outputs/test_lora\nmicro_batch_size: 2\nglobal_batch_size: 8\n"
    "cutoff_len: 2048\nlearning_rate: 1.0e-4\nmax_steps: 10\nsample_backend: hf\nmax_new_tokens: 128\n";

std::string folder() {
  static const std::string path = testing::TempDir() + "/loraine_v1";
  std::filesystem::create_directories(path);
  return path;
}

TrainConfig taken(const std::string& yaml, std::vector<std::string> words = {}, bool training = true,
                  std::vector<std::string>* notes = nullptr) {
  write_file(folder() + "/v1.yaml", yaml);
  words.insert(words.begin(), folder() + "/v1.yaml");
  TrainConfig config;
  apply_settings(config, read_arguments(words, training, notes));
  return config;
}

std::string refusal(const std::string& yaml) {
  try {
    taken(yaml);
  } catch (const Error& error) { return error.what() + ("; " + error.hint); }
  return "taken";
}

TEST(V1Settings, Lora) {
  std::vector<std::string> notes;
  const TrainConfig c = taken(kLora, {}, true, &notes);
  EXPECT_EQ(c.model_name_or_path, "Qwen/Qwen3-4B");
  EXPECT_EQ(c.finetuning_type, "lora");
  EXPECT_EQ(c.lora_rank, 16);
  EXPECT_EQ(c.lora_alpha, 32);
  EXPECT_DOUBLE_EQ(c.lora_dropout, 0.05);
  EXPECT_EQ(c.lora_target, "all");
  EXPECT_EQ(c.dataset, "rows.json");
  EXPECT_EQ(c.per_device_train_batch_size, 2);
  EXPECT_EQ(c.gradient_accumulation_steps, 4);
  EXPECT_EQ(c.max_steps, 10);
  EXPECT_EQ(c.lr_scheduler_type, "constant");
  EXPECT_DOUBLE_EQ(c.weight_decay, 0.01);
  EXPECT_TRUE(c.bf16);
  EXPECT_EQ(c.save_strategy, "no");
  EXPECT_EQ(c.logging_steps, 1);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("model_class is a key of LLaMA-Factory's v1 settings"), std::string::npos);
  EXPECT_NE(notes[0].find("without effect: kernel_config, dist_config, sample_backend"), std::string::npos);
}

TEST(V1Settings, OverridesReachIntoMaps) {
  const TrainConfig c = taken(kLora, {"peft_config.r=4", "bf16=false", "save_steps=5", "lr_scheduler_type=cosine"});
  EXPECT_EQ(c.lora_rank, 4);
  EXPECT_EQ(c.lora_alpha, 32);
  EXPECT_FALSE(c.bf16);
  EXPECT_EQ(c.save_strategy, "steps");
  EXPECT_EQ(c.lr_scheduler_type, "cosine");
}

TEST(V1Settings, FullFreezeAndQuantised) {
  EXPECT_EQ(taken("model: m\nmodel_class: llm\n").finetuning_type, "full");
  const TrainConfig freeze = taken("model: m\npeft_config: {name: freeze, freeze_trainable_layers: 3, freeze_extra_modules: null}\n");
  EXPECT_EQ(freeze.finetuning_type, "freeze");
  EXPECT_EQ(freeze.freeze_trainable_layers, 3);
  EXPECT_EQ(taken("model: m\nquant_config: {name: bnb}\n").quantization_bit, 4);
  EXPECT_EQ(taken("model: m\nquant_config: {name: auto, quantization_bit: 8}\n").quantization_bit, 8);
  EXPECT_FALSE(taken("model: m\nquant_config: {name: auto}\n").quantization_bit);
  EXPECT_FALSE(taken("model: m\nquant_config: null\n").quantization_bit);
}

TEST(V1Settings, Muon) {
  const TrainConfig c =
      taken("model: m\noptim_config: {name: muon, momentum: 0.95, nesterov: true, ns_steps: 5, adamw_betas: [0.9, 0.99]}\n");
  EXPECT_TRUE(c.use_muon);
  EXPECT_DOUBLE_EQ(c.weight_decay, 0.1);
  EXPECT_DOUBLE_EQ(c.adam_beta2, 0.99);
  EXPECT_DOUBLE_EQ(c.adam_epsilon, 1e-8);
}

TEST(V1Settings, ExportTakesNoDefaults) {
  const TrainConfig c = taken(
      "model: m\npeft_config: {name: lora, adapter_name_or_path: ./a, export_dir: ./b, export_size: 5, infer_dtype: auto}\n", {}, false);
  EXPECT_EQ(c.adapter_name_or_path, "./a");
  EXPECT_EQ(c.export_dir, "./b");
  EXPECT_FALSE(c.given.contains("weight_decay"));
}

TEST(V1Settings, ListsOfSets) {
  write_file(folder() + "/sets.yaml",
             "identity:\n  path: data/identity.json\n  source: local\n  converter: alpaca\n  size: 500\n"
             "other:\n  path: org/rows\n  split: test\n  weight: 0.5\n");
  write_file(folder() + "/evals.yaml", "other:\n  path: org/other\n  source: ms_hub\n  converter: sharegpt\n");
  const TrainConfig c = taken("model_class: llm\ntrain_dataset: " + folder() + "/sets.yaml\neval_dataset: " + folder() + "/evals.yaml\n");
  EXPECT_EQ(c.dataset, "identity,other");
  EXPECT_EQ(c.eval_dataset, "other (eval_dataset)");
  const auto alpaca = Json{{"prompt", "instruction"}, {"query", "input"}, {"response", "output"}, {"system", "system"}};
  EXPECT_EQ(
      Json::parse(c.dataset_dir),
      Json(
          {{"identity", {{"file_name", "data/identity.json"}, {"num_samples", 500}, {"formatting", "alpaca"}, {"columns", alpaca}}},
           {"other", {{"hf_hub_url", "org/rows"}, {"split", "test"}, {"weight", 0.5}, {"formatting", "recognised"}}},
           {"other (eval_dataset)",
            {{"ms_hub_url", "org/other"}, {"formatting", "sharegpt"}, {"columns", {{"messages", "conversations"}, {"tools", "tools"}}}}}}));
  write_file(folder() + "/pairs.yaml", "a:\n  path: x\n  converter: pair\n");
  EXPECT_NE(refusal("model_class: llm\ntrain_dataset: " + folder() + "/pairs.yaml\n").find("pairs.yaml:1:1: a.converter: \"pair\" of v1's"),
            std::string::npos);
  EXPECT_NE(refusal("model_class: llm\ndataset_dir: data\ntrain_dataset: " + folder() + "/sets.yaml\n").find("leave dataset_dir out"),
            std::string::npos);
  EXPECT_NE(refusal("model_class: llm\ntrain_dataset: " + folder() + "/none.yaml\n").find("v1.yaml:2:1: train_dataset"), std::string::npos);
}

TEST(V1Settings, WhatHasNoCounterpartIsNamed) {
  for (const auto& [yaml, words] : std::vector<std::pair<std::string, std::string>>{
           {"model: m\noptim_config: {name: sophia}", "v1.yaml:2:1: optim_config (name: \"sophia\")"},
           {"model: m\noptim_config: {name: muon, ns_steps: 6}", "optim_config.ns_steps (6)"},
           {"model_class: cls", "model_class (\"cls\")"},
           {"model_class: llm\ncp_size: 2", "cp_size (2)"},
           {"peft_config: {name: oft}", "peft_config.name: oft"},
           {"peft_config: {name: lora, rr: 3}", "peft_config.rr"},
           {"peft_config: lora", "expected a map with a name"},
           {"quant_config: {name: gptq}", "quant_config.name: gptq"},
           {"model_class: llm\nmicro_batch_size: 3\nglobal_batch_size: 8", "global_batch_size is 8, and micro_batch_size 3"},
           {"model_class: llm\nsave_epochs: 0.5", "save_epochs (0.5)"},
           {"model_class: llm\ncustom_chat_template: x", "chat_template.jinja"},
           {"model_class: llm\nlearning_rat: 1", "unknown key 'learning_rat'"}})
    EXPECT_NE(refusal(yaml).find(words), std::string::npos) << refusal(yaml);
}

TEST(V1Settings, OtherFilesStayAsTheyAre) {
  std::vector<std::string> notes;
  TrainConfig c = taken("model_name_or_path: m\ntrain_dataset: x\nmicro_batch_size: 2\n", {}, true, &notes);
  EXPECT_TRUE(notes.empty());
  EXPECT_EQ(c.finetuning_type, "lora");
  setenv("USE_V1", "1", 1);
  c = taken("model: m\ntrain_dataset: x\n");
  unsetenv("USE_V1");
  EXPECT_EQ(c.finetuning_type, "full");
}

}  // namespace
}  // namespace loraine::v1_settings_test
