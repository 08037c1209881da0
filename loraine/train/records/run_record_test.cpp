// What counts as a change of a run's settings: every option, and settings that say the same.
#include "loraine/train/records/run_record.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "loraine/core/error.h"

namespace loraine::run_record_test {
namespace {

namespace fs = std::filesystem;

ChangedSettings between(const TrainConfig& was, const TrainConfig& now) { return changed_settings(run_record(was, ""), now); }

// Another value than the present one, that its type allows.
void change(const Option& option) {
  std::visit(
      [&](auto* field) {
        using Field = std::remove_pointer_t<decltype(field)>;
        if constexpr (std::is_same_v<Field, bool>) *field = !*field;
        else if constexpr (std::is_same_v<Field, std::optional<bool>>) *field = !field->value_or(false);
        else if constexpr (std::is_same_v<Field, int64_t> || std::is_same_v<Field, double>) *field += 1;
        else if constexpr (std::is_same_v<Field, std::optional<int64_t>> || std::is_same_v<Field, std::optional<double>>)
          *field = field->value_or(5) + 2;
        else if (option.limits.json) *field = R"({"x": 3})";
        else *field = "another";
      },
      option.field);
}

// Keys that say nothing about what a run gives, only about this call of it or about other commands.
bool of_the_call(const Option& option) {
  static const std::set<std::string> kNames = {"model_name_or_path",
                                               "infer_dtype",
                                               "device",
                                               "model_revision",
                                               "language",
                                               "strict",
                                               "output_dir",
                                               "overwrite_output_dir",
                                               "do_train",
                                               "dry_run",
                                               "memory_limit",
                                               "allow_data_change",
                                               "resume_from_checkpoint",
                                               "cache_dir",
                                               "push_to_hub",
                                               "hub_model_id",
                                               "hub_private_repo",
                                               "hub_revision",
                                               "hub_strategy"};
  return kNames.contains(option.name) || option.limits.secret || option.group == "generation" || option.group == "export";
}

TEST(RunRecord, EveryOptionIsLookedAt) {
  TrainConfig was;  // in which every option is read
  was.use_adalora = was.pissa_init = true;
  was.loraplus_lr_ratio = 4;
  was.quantization_bit = 4;
  was.quantization_method = "hqq";
  was.init_lora_weights = "loftq";
  was.quant_aware = "q8_0";
  was.use_galore = was.use_apollo = was.use_badam = true;
  for (const Option& option : options_of(was)) {
    if (option.name == "finetuning_type" || option.name == "warmup_ratio") continue;  // then others are read
    TrainConfig base = was;
    if (option.name.starts_with("freeze_")) base.finetuning_type = "freeze";
    if (option.name.starts_with("oft_") || option.name == "module_dropout" || option.name == "adapter_args") base.finetuning_type = "oft";
    for (const char* start : {"eva", "corda", "lora_ga"})
      if (option.name.starts_with(std::string(start) + "_")) base.init_lora_weights = start;
    if (option.name == "start_samples") base.init_lora_weights = "eva";
    TrainConfig now = base;
    for (const Option& other : options_of(now))
      if (other.name == option.name) change(other);
    const ChangedSettings changed = between(base, now);
    std::string all;
    for (const auto& list : {changed.result, changed.data, changed.free})
      for (const std::string& text : list) all += text + "\n";
    EXPECT_EQ(all.find(option.name + " differs (was ") != std::string::npos, !of_the_call(option)) << option.name << ": " << all;
    EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), of_the_call(option)                                   ? 0
                                                        : option.name == "seed" || option.name == "lora_rank" ? 2
                                                                                                              : 1)
        << option.name << ": " << all;
    if (option.group == "optimizer" && !of_the_call(option)) { EXPECT_EQ(changed.result.size(), 1u) << option.name; }
    if (option.group == "data") { EXPECT_EQ(changed.data.empty(), of_the_call(option)) << option.name; }
  }
}

TEST(RunRecord, NoSecrets) {
  TrainConfig config;
  int secrets = 0;
  for (const Option& option : options_of(config))
    if (option.limits.secret) {
      set_option(option, {.key = option.name, .text = "hf_secret", .typed = false, .where = "here"});
      EXPECT_EQ(value_text(option), "(secret)");
      ++secrets;
    }
  EXPECT_EQ(secrets, 3);
  EXPECT_EQ(run_record(config, "base").settings.find("hf_secret"), std::string::npos);
}

TEST(RunRecord, SettingsThatSayTheSame) {
  TrainConfig was, now;
  was.warmup_steps = 0.1;
  now.warmup_ratio = 0.1;
  now.lora_alpha = 16;
  now.data_seed = 42;
  now.optim = "adamw_torch";
  now.tinit = 5;       // without use_adalora
  now.pissa_iter = 3;  // without pissa_init
  now.freeze_trainable_layers = 9;
  now.loftq_bits = 8;
  was.lora_target = "q_proj,v_proj";
  now.lora_target = "q_proj, v_proj";
  EXPECT_TRUE(between(was, now).result.empty());
  was.max_steps = now.max_steps = 5;
  now.num_train_epochs = 9;
  EXPECT_TRUE(between(was, now).free.empty());
}

TEST(RunRecord, WhatMayChange) {
  TrainConfig was, now;
  now.max_steps = 100;
  now.logging_steps = 1;
  now.eval_strategy = "epoch";
  EXPECT_EQ(between(was, now).free.size(), 3u);
  EXPECT_TRUE(between(was, now).result.empty());
  was.lr_scheduler_type = now.lr_scheduler_type = "reduce_lr_on_plateau";  // the rate follows the evaluations
  ASSERT_EQ(between(was, now).result.size(), 1u);
  EXPECT_EQ(between(was, now).result[0], "eval_strategy differs (was no, now epoch)");
}

TEST(RunRecord, IsReadBackAndChecked) {
  const fs::path folder = fs::temp_directory_path() / ("loraine_run_record_" + std::to_string(getpid()));
  fs::create_directories(folder);
  EXPECT_FALSE(read_run_record(folder));
  TrainConfig config;
  config.learning_rate = 1e-3;
  config.rank_pattern = R"({"q_proj": 2})";
  write_run_record(folder, run_record(config, "0123"));
  const std::optional<RunRecord> read = read_run_record(folder);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->base, "0123");
  EXPECT_TRUE(changed_settings(*read, config).result.empty());
  ASSERT_EQ(changed_settings(*read, TrainConfig()).result.size(), 2u);
  for (const char* bad : {"", "[]", "{}", R"({"settings": 3, "base": ""})", R"({"settings": {}})",
                          R"({"settings": {"lora_rank": [1, {}], "seed": "x"}, "base": 1})"}) {
    std::ofstream(folder / kRunRecord) << bad;
    EXPECT_THROW(read_run_record(folder), Error) << bad;
  }
  for (const char* odd :
       {R"({"settings": {"lora_rank": "x", "finetuning_type": 5, "max_steps": [], "seed": {}, "warmup_ratio": []}, "base": ""})",
        R"({"settings": {}, "base": ""})"}) {  // of another version: compared, never believed
    std::ofstream(folder / kRunRecord) << odd;
    EXPECT_NO_THROW(changed_settings(*read_run_record(folder), config)) << odd;
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace loraine::run_record_test
