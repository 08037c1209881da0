// How words become settings: YAML values as LLaMA-Factory reads them, overrides, flags, unknown keys, notes.
#include "loraine/cli/settings/arguments.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "loraine/cli/commands.h"
#include "loraine/cli/reference/reference.h"
#include "loraine/cli/settings/yaml_values.h"
#include "loraine/core/error.h"

namespace loraine::arguments_test {
namespace {

const std::string kGolden = LORAINE_SOURCE_DIR "/../shared/golden/llamafactory/";

std::string temporary(const std::string& name, const std::string& content) {
  std::string path = std::filesystem::temp_directory_path() / ("loraine_arguments_" + std::to_string(getpid()) + "_" + name);
  std::ofstream(path) << content;
  return path;
}

// The recorded type and value of one case against ours.
void expect_same(const Value& ours, const Value& recorded, const std::string& text) {
  std::string type = recorded["type"];
  if (type == "float") {
    ASSERT_TRUE(ours.is_number_float()) << text << " -> " << ours;
    if (recorded["value"].is_string()) {
      std::string word = recorded["value"];
      double x = ours.get<double>();
      EXPECT_TRUE(word == "nan" ? std::isnan(x) : std::isinf(x) && (x < 0) == (word[0] == '-')) << text;
    } else {
      EXPECT_EQ(ours, recorded["value"]) << text;
    }
    return;
  }
  EXPECT_EQ(ours.is_number_integer(), type == "int") << text << " -> " << ours;
  EXPECT_EQ(ours.is_boolean(), type == "bool") << text << " -> " << ours;
  EXPECT_EQ(ours.is_string(), type == "str") << text << " -> " << ours;
  EXPECT_EQ(ours.is_null(), type == "NoneType") << text << " -> " << ours;
  EXPECT_EQ(ours, recorded["value"]) << text;
}

TEST(Arguments, ValuesEqualTheRecordedOnes) {
  std::ifstream file(kGolden + "config_values.json");
  if (!file) GTEST_SKIP() << "no recorded values at " << kGolden;
  Value cases = Value::parse(file);
  ASSERT_GT(cases["yaml"].size(), 50u);
  for (const Value& one : cases["yaml"]) {
    std::string text = one["text"];
    if (one.contains("error")) EXPECT_THROW(yaml_value(text, "case"), Error) << text;
    else expect_same(yaml_value(text, "case"), one, text);
    if (one.contains("error") || text.empty()) continue;
    std::vector<KeyValue> pairs = yaml_pairs("a: " + text + "\n", "case");
    ASSERT_EQ(pairs.size(), 1u);
    expect_same(pairs[0].value, one, "a: " + text);
  }
  for (const Value& one : cases["override"]) {
    std::string text = one["text"];
    if (one.contains("error")) EXPECT_THROW(override_pair(text), Error) << text;
    else expect_same(override_pair(text).value, one, text);
  }
  Value merged = cases["merge"]["file"];
  for (const Value& word : cases["merge"]["overrides"]) {
    KeyValue pair = override_pair(word);
    Value one = Value::object();
    one[pair.key] = pair.value;
    merge_value(merged, one);
  }
  EXPECT_EQ(merged, cases["merge"]["result"]);
}

TEST(Arguments, EveryRecordedKeyIsKnownWithItsDefault) {
  std::ifstream file(kGolden + "arguments.json");
  if (!file) GTEST_SKIP() << "no recorded arguments at " << kGolden;
  Value recorded = Value::parse(file);
  ASSERT_GT(recorded["arguments"].size(), 300u);
  TrainConfig config;
  std::vector<Option> options = options_of(config);
  Value ours = Value::parse(config_json(config));
  size_t fields = 0;
  for (const Value& one : recorded["arguments"]) {
    std::string name = one["name"];
    if (!ours.contains(name)) {  // accepted at its default, by file and by flag
      Setting setting{.key = name, .text = one["default"].dump(), .typed = true, .bare = false, .where = "f"};
      EXPECT_NO_THROW(apply_settings(config, {&setting, 1})) << name;
      continue;
    }
    ++fields;
    if (name == "output_dir" || name == "model_name_or_path") continue;  // null there: trainer_output, and an error
    if (name == "gradient_checkpointing") continue;                      // false there, and LLaMA-Factory sets it itself
    if (name == "pissa_convert") continue;                               // false there, and such a folder loads wrongly in PEFT
    if (name == "do_train") continue;                                    // false there, where nothing happens without it
    EXPECT_EQ(ours[name], one["default"]) << name;
    if (one["choices"].is_null()) continue;
    for (const Option& option : options) {
      if (option.name != name) continue;
      std::vector<std::string> choices = option.limits.choices;
      if (name == "stage") std::erase_if(choices, [](const std::string& own) { return own == "grpo" || own == "decision"; });
      std::vector<std::string> theirs = one["choices"];
      if (name == "finetuning_type") {  // here with PEFT's other methods, which the list of them names in its order
        std::erase_if(choices, [&](const std::string& own) { return std::ranges::find(theirs, own) == theirs.end(); });
        std::ranges::sort(choices), std::ranges::sort(theirs);
      }
      EXPECT_EQ(choices, theirs) << name;
    }
  }
  EXPECT_GT(fields, 70u);
}

TEST(Arguments, OneYamlDocument) {
  EXPECT_THROW(yaml_pairs(",rank: 2", "case"), Error);  // yaml-cpp finds documents without end before a stray comma
  EXPECT_THROW(yaml_value(", 1", "case"), Error);
  EXPECT_THROW(yaml_pairs("a: 1\n---\na: 2\n", "case"), Error);
  EXPECT_EQ(yaml_pairs("---\na: 1\n...\n", "case").size(), 1u);
  EXPECT_TRUE(yaml_pairs("# nothing\n", "case").empty());
}

TEST(Arguments, FileThenOverrides) {
  std::string path =
      temporary("a.yaml",
                "learning_rate: 1e-4\nlora_target: [q_proj, v_proj]\neval_strategy: no\nlr_scheduler_kwargs: {min_lr_rate: 0.1}\n"
                "overwrite_cache: true\n");
  TrainConfig config;
  auto notes = apply_settings(config, read_arguments({path, "learning_rate=2e-4", "lr_scheduler_kwargs.num_cycles=3", "lora_alpha=null"}));
  EXPECT_DOUBLE_EQ(config.learning_rate, 2e-4);
  EXPECT_EQ(config.lora_target, "q_proj,v_proj");
  EXPECT_EQ(config.eval_strategy, "no");
  EXPECT_EQ(config.lr_scheduler_kwargs, "{\"min_lr_rate\":0.1,\"num_cycles\":3}");
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].text.find("overwrite_cache"), std::string::npos);
  std::filesystem::remove(path);
}

TEST(Arguments, Flags) {
  TrainConfig config;
  apply_settings(config, read_arguments({"--model_name_or_path", "m", "--lora-rank=16", "--bf16", "--no_do_sample", "--plot_loss", "False",
                                         "--lora_target", "010"}));
  EXPECT_EQ(config.model_name_or_path, "m");
  EXPECT_EQ(config.lora_rank, 16);
  EXPECT_TRUE(config.bf16);
  EXPECT_FALSE(config.do_sample);
  EXPECT_FALSE(config.plot_loss);
  EXPECT_EQ(config.lora_target, "010");  // a flag's text stays as it is
  apply_settings(config, read_arguments({"--include_num_input_tokens_seen", "--no_gradient_checkpointing", "--resume_from_checkpoint"}));
  EXPECT_EQ(config.include_num_input_tokens_seen, "all");
  EXPECT_EQ(config.gradient_checkpointing, "false");
  EXPECT_EQ(config.resume_from_checkpoint, "true");
  EXPECT_THROW(apply_settings(config, read_arguments({"--lora_rank"})), Error);
  EXPECT_THROW(apply_settings(config, read_arguments({"--learning_rate", "-1"})), Error);
  EXPECT_THROW(apply_settings(config, read_arguments({"--no_lora_rank"})), Error);
  EXPECT_THROW(read_arguments({"train.txt"}), Error);
}

TEST(Arguments, UnknownKeysNameTheirPlace) {
  std::string path = temporary("b.yaml", "lora_rank: 4\n  \nlora_alhpa: 8\n");
  TrainConfig config;
  try {
    apply_settings(config, read_arguments({path}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("b.yaml:3:1"), std::string::npos) << error.what();
    EXPECT_NE(error.hint.find("'lora_alpha'"), std::string::npos) << error.hint;
  }
  std::filesystem::remove(path);
  std::string json = temporary("c.json", "{\n \"lora_rank\": 4,\n \"lora_rank\": 5}");
  try {
    read_arguments({json});
    FAIL();
  } catch (const Error& error) { EXPECT_NE(std::string(error.what()).find("c.json:3:2"), std::string::npos) << error.what(); }
  std::filesystem::remove(json);
  EXPECT_THROW(yaml_pairs("a: 1\nb: 2\na: 3\n", "f"), Error);
  EXPECT_THROW(yaml_pairs("- a\n", "f"), Error);
  EXPECT_THROW(yaml_pairs("a: [1, 2\n", "f"), Error);
  EXPECT_THROW(yaml_pairs("a: " + std::string(2000, '[') + "\n", "f"), Error);
}

TEST(Arguments, KeysThatAreNotBuilt) {
  TrainConfig config;
  for (const char* word : {"export_quantization_bit=4", "quantization_method=eetq", "shift_attn=true", "stage=ppo", "fp8=true"}) {
    try {
      apply_settings(config, read_arguments({word}));
      FAIL() << word;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, ErrorKind::unsupported) << word;
      EXPECT_NE(std::string(error.what()).find(std::string(word, std::string(word).find('='))), std::string::npos) << error.what();
    }
  }
  for (const char* word : {"export_quantization_bit=null", "packing=false", "quantization_bit=null", "stage=sft", "mix_strategy=concat"})
    EXPECT_TRUE(apply_settings(config, read_arguments({word})).empty()) << word;
  EXPECT_TRUE(apply_settings(config, read_arguments({"--shift_attn", "False", "--packing", "no"})).empty());
  EXPECT_THROW(apply_settings(config, read_arguments({"--shift_attn"})), Error);
}

TEST(Arguments, Rules) {
  auto check = [](std::vector<std::string> words) {
    words.insert(words.end(), {"--model_name_or_path", "m", "--dataset", "d"});
    TrainConfig config;
    apply_settings(config, read_arguments(words));
    check_train_config(config);
  };
  EXPECT_NO_THROW(check({}));
  EXPECT_THROW(check({"--mask_history", "--train_on_prompt"}), Error);
  EXPECT_THROW(check({"--eval_strategy", "steps"}), Error);
  EXPECT_NO_THROW(check({"--eval_strategy", "steps", "--val_size", "0.1"}));
  EXPECT_THROW(check({"--eval_dataset", "e", "--val_size", "0.1"}), Error);
  EXPECT_THROW(check({"--load_best_model_at_end", "--val_size", "0.1", "--eval_strategy", "epoch"}), Error);
  EXPECT_THROW(check({"--lora_rank", "0"}), Error);
  EXPECT_NO_THROW(check({"--finetuning_type", "full"}));
  EXPECT_THROW(check({"--finetuning_type", "full", "--adapter_name_or_path", "a"}), Error);
  EXPECT_THROW(check({"--finetuning_type", "freeze", "--additional_target", "lm_head"}), Error);
  EXPECT_THROW(check({"--finetuning_type", "full", "--bias", "all"}), Error);
  EXPECT_NO_THROW(check({"--stage", "pt", "--packing", "true"}));
  EXPECT_NO_THROW(check({"--packing", "true"}));
  EXPECT_NO_THROW(check({"--neat_packing"}));
  EXPECT_THROW(check({"--stage", "pt", "--neat_packing"}), Error);
  EXPECT_NO_THROW(check({"--stage", "dpo"}));
  EXPECT_THROW(check({"--stage", "ppo"}), Error);
  EXPECT_THROW(check({"--stage", "dpo", "--pref_loss", "kto_pair"}), Error);
  EXPECT_THROW(check({"--stage", "dpo", "--pref_loss", "hinge", "--dpo_label_smoothing", "0.1"}), Error);
  EXPECT_THROW(check({"--stage", "dpo", "--pref_loss", "orpo", "--pref_bco_weight", "1"}), Error);
  EXPECT_THROW(check({"--stage", "dpo", "--pref_loss", "simpo", "--ref_model", "m"}), Error);
  EXPECT_THROW(check({"--stage", "rm", "--ref_model", "m"}), Error);
  EXPECT_THROW(check({"--stage", "dpo", "--ref_model_adapters", "a"}), Error);
  EXPECT_THROW(check({"--stage", "dpo", "--pissa_init"}), Error);
  EXPECT_NO_THROW(check({"--stage", "dpo", "--pissa_init", "--ref_model", "m"}));
  EXPECT_NO_THROW(check({"--stage", "dpo", "--pissa_init", "--pref_loss", "orpo"}));
  EXPECT_THROW(check({"--stage", "kto", "--packing"}), Error);
  EXPECT_THROW(check({"--stage", "rm", "--train_on_prompt"}), Error);
  const auto check_data = [](std::vector<std::string> words) {
    words.insert(words.end(), {"--model_name_or_path", "m", "--dataset", "d"});
    TrainConfig config;
    apply_settings(config, read_arguments(words));
    check_data_config(config);
  };
  EXPECT_NO_THROW(check_data({"--stage", "dpo"}));
  EXPECT_NO_THROW(check_data({"--streaming", "--max_steps", "5", "--val_size", "3"}));
  EXPECT_THROW(check_data({"--streaming"}), Error);
  EXPECT_THROW(check_data({"--streaming", "--max_steps", "5", "--val_size", "0.5"}), Error);
  EXPECT_THROW(check_data({"--streaming", "--max_steps", "5", "--max_samples", "5"}), Error);
  EXPECT_THROW(check({"--stage", "pt", "--train_on_prompt"}), Error);
  EXPECT_NO_THROW(check({"--quantization_bit", "4", "--use_dora"}));
  EXPECT_NO_THROW(check({"--quantization_bit", "8", "--frozen_matmul", "int8"}));
  EXPECT_THROW(check({"--quantization_bit", "4", "--frozen_matmul", "int8"}), Error);
  EXPECT_THROW(check({"--quantization_bit", "3"}), Error);
  EXPECT_THROW(check({"--quantization_bit", "4", "--finetuning_type", "full"}), Error);
  EXPECT_THROW(check({"--quantization_bit", "4", "--pissa_init"}), Error);
  EXPECT_NO_THROW(check({"--quantization_bit", "4", "--init_lora_weights", "loftq"}));
  EXPECT_THROW(check({"--quantization_bit", "8", "--init_lora_weights", "loftq"}), Error);
  EXPECT_THROW(check({"--init_lora_weights", "loftq", "--loftq_bits", "5"}), Error);
  EXPECT_NO_THROW(check({"--warmup_steps", "3", "--warmup_ratio", "0.1"}));
  EXPECT_THROW(check({"--lr_scheduler_type", "reduce_lr_on_plateau"}), Error);
  EXPECT_NO_THROW(check({"--lr_scheduler_type", "reduce_lr_on_plateau", "--eval_strategy", "epoch", "--val_size", "2"}));
  TrainConfig empty;
  EXPECT_THROW(check_train_config(empty), Error);
  EXPECT_THROW(check_export_config(empty), Error);
}

TEST(Arguments, NotesOnWhatCounts) {
  TrainConfig config;
  EXPECT_TRUE(config_notes(config).empty());
  config.dataset = "a, b,a,a";
  config.eval_dataset = "b";
  config.warmup_steps = 3;
  config.warmup_ratio = 0.1;
  const std::vector<std::string> notes = config_notes(config);
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_NE(notes[0].find("warmup_ratio 0.1"), std::string::npos);
  EXPECT_NE(notes[1].find("dataset names a more than once"), std::string::npos);
}

TEST(Arguments, RecordedRunsAreRead) {
  if (!std::filesystem::exists(kGolden + "runs")) GTEST_SKIP() << "no recorded runs at " << kGolden;
  for (const char* run :
       {"sft_lora", "sft_lora_qwen3", "sft_lora_two_targets", "sft_lora_accumulation", "sft_lora_batch_accumulation", "sft_rslora",
        "sft_shuffled", "sft_evaluation", "sft_val_size", "sft_early_stopping", "sft_resume", "sft_train_on_prompt",
        "sft_multiturn_mask_history", "sft_full", "sft_freeze", "sft_additional_target", "sft_label_smoothing", "pt_lora"}) {
    TrainConfig config;
    EXPECT_NO_THROW({
      apply_settings(config, read_arguments({kGolden + "runs/" + run + "/train.yaml"}));
      check_train_config(config);
    }) << run;
    EXPECT_EQ(config.dataset_dir, "data");
    EXPECT_TRUE(config.template_name.has_value()) << run;
  }
}

TEST(Arguments, AHelpBeginsWithAnExampleThatReads) {
  for (const Command& command : commands()) {
    testing::internal::CaptureStdout();
    if (command.run != run_help) command.run({"--help"});
    const std::string help = testing::internal::GetCapturedStdout(), example = command.example;
    if (command.run != run_help) { EXPECT_TRUE(help.starts_with("example:\n  " + example + "\n")) << help.substr(0, 200); }
    std::vector<std::string> words;
    for (size_t at = 0, end = 0; at < example.size(); at = end + 1) {
      end = std::min(example.find(' ', at), example.size());
      words.push_back(example.substr(at, end - at));
    }
    ASSERT_GE(words.size(), 2u);
    EXPECT_EQ(words[0] + " " + words[1], std::string("loraine ") + command.name);
    for (const std::string& word : words)  // options that the help lists
      if (word.starts_with("--")) { EXPECT_NE(help.find(word + " "), std::string::npos) << command.name << " " << word; }
  }
}

TEST(Arguments, CommandsThatAreNotHereNameWhatIs) {
  const auto said = [](const std::string& name) {
    try {
      find_command(name);
    } catch (const Error& error) {
      EXPECT_EQ(exit_code(error.kind), 2);
      return error.what() + std::string("; ") + error.hint;
    }
    return std::string();
  };
  for (const AbsentCommand& absent : absent_commands()) EXPECT_NE(said(absent.name).find(absent.instead), std::string::npos) << absent.name;
  EXPECT_NE(said("webui").find("LLaMA-Factory"), std::string::npos);
  EXPECT_NE(said("trian").find("did you mean 'train'"), std::string::npos);
  EXPECT_NE(said("run.yaml").find("loraine train run.yaml"), std::string::npos);
}

TEST(Arguments, HelpNamesEveryOption) {
  TrainConfig config;
  std::string help = command_help("train") + command_help("chat") + command_help("export");
  const auto names = [&](const std::string& word) { return help.find(word + " ") != help.npos || help.find(word + "\n") != help.npos; };
  for (const Option& option : options_of(config)) EXPECT_TRUE(names("--" + option.name)) << option.name;
}

// Every number that any command takes has a lowest and a highest value, and the help says them.
TEST(Arguments, EveryNumberHasARange) {
  int numbers = 0;
  for (const Command& command : commands()) {
    if (std::string_view(command.name) == "help" || std::string_view(command.name) == "version") continue;
    testing::internal::CaptureStdout();
    command.run({"--help"});
    std::string help = testing::internal::GetCapturedStdout();
    for (size_t at = help.find('\n'); at != help.npos; at = help.find('\n', at))
      help.replace(at, help.find_first_not_of(" \n", at) - at, " ");
    for (const char* type : {"(an integer", "(a number"})
      for (size_t at = help.find(type); at != help.npos; at = help.find(type, at + 1), ++numbers) {
        const std::string range = help.substr(at, help.find(';', at) - at);
        EXPECT_TRUE(range.find(" to ") != range.npos || range.find(" and below ") != range.npos ||
                    range.find(" and at most ") != range.npos)
            << command.name << ": " << range;
      }
  }
  EXPECT_GT(numbers, 60);
}

TEST(Arguments, EveryWordOfTheReferenceIsTaken) {
  TrainConfig config;
  for (const Option& option : options_of(config)) {
    std::string words = type_text(option);
    if (!words.starts_with("one of: ")) continue;
    words = words.substr(8);
    if (words.ends_with(", or null")) words.resize(words.size() - 9);
    for (const std::string& word : split_list(words))
      EXPECT_NO_THROW(set_option(option, {.key = option.name, .text = word, .typed = false, .where = "--" + option.name}))
          << option.name << " " << word;
  }
}

TEST(Arguments, UseCpuIsADevice) {
  TrainConfig config;
  apply_settings(config, read_arguments({"--use_cpu", "false"}));
  EXPECT_EQ(config.device, "auto");
  apply_settings(config, read_arguments({"--use_cpu"}));
  EXPECT_EQ(config.device, "cpu");
  TrainConfig other;
  EXPECT_THROW(apply_settings(other, read_arguments({"--device", "cuda", "--no_cuda"})), Error);
}

TEST(Arguments, TheReferenceInDocsIsWhatTheProgramPrints) {
  std::ifstream file(LORAINE_SOURCE_DIR "/docs/cli.md");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  EXPECT_EQ(text, cli_reference()) << "run: build/loraine help --markdown > docs/cli.md";
}

}  // namespace
}  // namespace loraine::arguments_test
