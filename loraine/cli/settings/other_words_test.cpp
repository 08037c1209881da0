// Words of other programs: none is a key itself, each one leads to keys that are there, and two words for one key must agree.
#include "loraine/train/config/other_words.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/cli/settings/arguments.h"
#include "loraine/core/error.h"
#include "loraine/eval/evaluate.h"
#include "loraine/train/config/other_keys.h"

namespace loraine::other_words_test {
namespace {

std::set<std::string> words_of_others() {
  std::set<std::string> words;
  for (const OtherWord& one : other_words()) EXPECT_TRUE(words.insert(one.word).second) << one.word;
  for (const OtherSwitch& one : other_switches()) EXPECT_TRUE(words.insert(one.word).second) << one.word;
  return words;
}

std::string taken(TrainConfig& config, const std::vector<std::string>& args) {
  std::string said;
  for (const SettingNote& note : apply_settings(config, read_arguments(args))) said += note.text + "\n";
  return said;
}

std::string refused(const std::vector<std::string>& args) {
  TrainConfig config;
  try {
    apply_settings(config, read_arguments(args));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::usage);
    return error.what() + std::string("; ") + error.hint;
  }
  ADD_FAILURE() << args[0] << " is taken";
  return "";
}

TEST(OtherWords, NoneIsAKey) {
  const std::set<std::string> words = words_of_others();
  EXPECT_GT(words.size(), 150u);
  TrainConfig config;
  for (const Option& option : options_of(config)) EXPECT_FALSE(words.contains(option.name)) << option.name;
  for (const OtherKey& key : other_keys()) EXPECT_FALSE(words.contains(key.name)) << key.name;
  std::ifstream file(LORAINE_SOURCE_DIR "/../shared/golden/llamafactory/arguments.json");
  if (!file) GTEST_SKIP() << "no recorded arguments";
  const Value recorded = Value::parse(file);
  ASSERT_GT(recorded["arguments"].size(), 300u);
  for (const Value& one : recorded["arguments"]) EXPECT_FALSE(words.contains(one["name"].get<std::string>())) << one["name"];
}

TEST(OtherWords, EachLeadsToKeysThatAreThere) {
  TrainConfig config;
  EvalConfig eval;
  std::set<std::string> keys;
  for (const Option& option : options_of(config)) keys.insert(option.name);
  for (const Option& option : options_of(eval)) keys.insert(option.name);
  for (const OtherWord& one : other_words()) {
    for (const std::string& key : one.keys) EXPECT_TRUE(keys.contains(key)) << one.word << " -> " << key;
    EXPECT_EQ(one.hint.empty(), one.keys.size() == 1) << one.word;
  }
  for (const OtherSwitch& one : other_switches())
    for (const auto& [key, value] : {one.yes, one.no}) EXPECT_TRUE(key.empty() || keys.contains(key)) << one.word << " -> " << key;
  for (const OtherKind& one : other_kinds()) EXPECT_TRUE(keys.contains(one.key)) << one.kind;
  // and with the values that they stand for
  for (const OtherSwitch& one : other_switches()) EXPECT_NO_THROW(taken(config, {"--" + one.word})) << one.word;
  for (const OtherKind& one : other_kinds()) EXPECT_NO_THROW(taken(config, {"finetuning_type=" + one.kind})) << one.kind;
}

TEST(OtherWords, AreTakenAndTold) {
  TrainConfig c;
  const std::string said = taken(c, {"lr=2e-4",
                                     "max_seq_length=512",
                                     "--epochs",
                                     "2",
                                     "--r=16",
                                     "--alpha=32",
                                     "--target-modules",
                                     "q_proj,v_proj",
                                     "--model",
                                     "m",
                                     "--data=d",
                                     "--output",
                                     "o",
                                     "--grad_accum=4",
                                     "--micro_batch_size=2",
                                     "--eval_steps_strategy=epoch",
                                     "--scheduler=cosine",
                                     "--warmup=0.1",
                                     "--early_stopping_patience=3",
                                     "--no_sample_packing"});
  EXPECT_DOUBLE_EQ(c.learning_rate, 2e-4);
  EXPECT_EQ(c.cutoff_len, 512);
  EXPECT_DOUBLE_EQ(c.num_train_epochs, 2);
  EXPECT_EQ(c.lora_rank, 16);
  EXPECT_EQ(c.lora_alpha, 32);
  EXPECT_EQ(c.lora_target, "q_proj,v_proj");
  EXPECT_EQ(c.model_name_or_path, "m");
  EXPECT_EQ(c.dataset, "d");
  EXPECT_EQ(c.output_dir, "o");
  EXPECT_EQ(c.gradient_accumulation_steps, 4);
  EXPECT_EQ(c.per_device_train_batch_size, 2);
  EXPECT_EQ(c.eval_strategy, "epoch");
  EXPECT_EQ(c.lr_scheduler_type, "cosine");
  EXPECT_DOUBLE_EQ(c.warmup_steps, 0.1);
  EXPECT_EQ(c.early_stopping_steps, 3);
  EXPECT_EQ(c.packing, false);
  for (const char* line :
       {"`lr` is taken as `learning_rate`\n", "`epochs` is taken as `num_train_epochs`\n", "`r` is taken as `lora_rank`\n"})
    EXPECT_NE(said.find(line), std::string::npos) << said;
}

TEST(OtherWords, YesAndNo) {
  TrainConfig c;
  const std::string said = taken(c, {"--load_in_4bit", "true", "--load_in_8bit", "false", "--no_mask_prompt"});
  EXPECT_EQ(c.quantization_bit, 4);
  EXPECT_TRUE(c.train_on_prompt);
  EXPECT_NE(said.find("`load_in_4bit: true` is taken as `quantization_bit: 4`"), std::string::npos) << said;
  EXPECT_EQ(said.find("load_in_8bit"), std::string::npos) << said;
  refused({"--load_in_4bit", "perhaps"});
  refused({"--load_in_4bit", "--load_in_8bit"});
}

TEST(OtherWords, KindsOfLora) {
  TrainConfig c;
  EXPECT_NE(
      taken(c, {"finetuning_type=qlora"}).find("`finetuning_type: qlora` is taken as `finetuning_type: lora` with `quantization_bit: 4`"),
      std::string::npos);
  EXPECT_EQ(c.finetuning_type, "lora");
  EXPECT_EQ(c.quantization_bit, 4);
  TrainConfig eight, later;
  taken(eight, {"--finetuning_type=QLoRA", "--quantization_bit=8"});
  EXPECT_EQ(eight.quantization_bit, 8);
  taken(later, {"finetuning_type=qlora", "--finetuning_type", "full"});  // the flag wins, and nothing of the former stays
  EXPECT_EQ(later.finetuning_type, "full");
  EXPECT_FALSE(later.quantization_bit);
}

TEST(OtherWords, WhatIsUnclearNamesTheCandidates) {
  EXPECT_NE(refused({"--batch_size=8", "--gradient_accumulation_steps=4"}).find("per_device_train_batch_size, or that times"),
            std::string::npos);
  EXPECT_NE(refused({"--grad_accum=4", "--batch_size=8"}).find("per_device_train_batch_size, or that times"), std::string::npos);
  EXPECT_NE(refused({"--max_tokens=8"}).find("max_new_tokens or cutoff_len"), std::string::npos);
  EXPECT_NE(refused({"--adapter=qlora"}).find("finetuning_type or adapter_name_or_path"), std::string::npos);
  EXPECT_NE(refused({"--scale=20"}).find("lora_alpha"), std::string::npos);
  TrainConfig c;
  taken(c, {"--batch_size=8"});
  EXPECT_EQ(c.per_device_train_batch_size, 8);
}

TEST(OtherWords, TwoWordsForOneKeyMustAgree) {
  const std::string said = refused({"--learning_rate=1e-4", "--lr=2e-4"});
  for (const char* word : {"`lr`", "`learning_rate`", "0.0001", "0.0002"}) EXPECT_NE(said.find(word), std::string::npos) << said;
  refused({"lora_r=8", "rank=16"});
  refused({"--load_in_4bit", "--quantization_bit=8"});
  TrainConfig c;
  taken(c, {"--learning_rate=1e-4", "--lr=0.0001"});
  EXPECT_DOUBLE_EQ(c.learning_rate, 1e-4);
  taken(c, {"learning_rate=1e-4", "--lr=2e-4"});  // a flag over what stands before it, as with one word
  EXPECT_DOUBLE_EQ(c.learning_rate, 2e-4);
  taken(c, {"lr=1e-4", "--learning_rate=3e-4"});
  EXPECT_DOUBLE_EQ(c.learning_rate, 3e-4);
}

TEST(OtherWords, OptionsOfACommandComeFirst) {
  TrainConfig config;
  EvalConfig eval;
  apply_settings(config, read_arguments({"--batch_size=2", "--num_fewshot=1"}), options_of(eval));
  EXPECT_EQ(eval.batch_size, 2);
  EXPECT_EQ(eval.n_shot, 1);
  EXPECT_EQ(config.per_device_train_batch_size, 8);
}

TEST(OtherWords, KeysWithoutEffectShareALine) {
  TrainConfig c;
  const std::vector<SettingNote> notes = apply_settings(
      c, read_arguments({"--trust_remote_code", "--overwrite_cache", "--log_level=info", "--ddp_timeout=1", "--max_length=512"}));
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_TRUE(notes[0].warning);
  EXPECT_NE(notes[0].text.find("cutoff_len"), std::string::npos);
  EXPECT_EQ(notes[1].text, "accepted, without effect in loraine: trust_remote_code, overwrite_cache, log_level, ddp_timeout");
}

}  // namespace
}  // namespace loraine::other_words_test
