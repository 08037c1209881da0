// The commands as another program calls them: asked to stop they end with kExitStopped and leave what they promise.
#include "loraine/cli/commands.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"

namespace loraine::commands_test {
namespace {

namespace fs = std::filesystem;
const std::string kRecorded = std::string(LORAINE_SOURCE_DIR) + "/tests/golden/peft/llama";

struct Stop : testing::Test {
  void SetUp() override {
    fs::remove_all(work);
    fs::create_directories(work);
    std::ofstream(work / "dataset_info.json") << R"({"rows": {"file_name": "rows.jsonl", "formatting": "tokenized"}})";
    std::ofstream rows(work / "rows.jsonl");
    for (int i = 0; i < 40; ++i)
      rows << R"({"input_ids": [5, 6, 7, 8, 9], "labels": [-100, 6, 7, 8, 9]})"
           << "\n";
  }
  void TearDown() override { fs::remove_all(work); }
  // As `command` is called; the settings of all of them first.
  int run(int (*command)(const std::vector<std::string>&, const std::atomic<bool>&), std::vector<std::string> words, bool stopped) {
    words.push_back("--model_name_or_path=" + kRecorded + "/model");
    const std::atomic<bool> stop{stopped};
    return command(words, stop);
  }
  fs::path work = fs::temp_directory_path() / ("loraine_stop_" + std::to_string(getpid())), out = work / "out";
};

TEST_F(Stop, ExportLeavesNoModel) {
  const std::vector<std::string> words = {"--adapter_name_or_path=" + kRecorded + "/lora", "--export_dir=" + out.string(),
                                          "--overwrite_output_dir"};
  ASSERT_EQ(run(run_export, words, false), 0);
  ASSERT_TRUE(fs::exists(out / "model.safetensors"));
  EXPECT_EQ(run(run_export, words, true), kExitStopped);
  EXPECT_FALSE(fs::exists(out / "model.safetensors"));
  EXPECT_FALSE(fs::exists(out / "config.json"));
}

TEST_F(Stop, EvaluationWritesNothing) {
  const std::vector<std::string> words = {"--eval_dataset=rows", "--dataset_dir=" + work.string(), "--output_dir=" + out.string()};
  EXPECT_EQ(run(run_eval, words, true), kExitStopped);
  EXPECT_FALSE(fs::exists(out));
  EXPECT_EQ(run(run_eval, words, false), 0);
  EXPECT_TRUE(fs::exists(out / "eval_results.json"));
}

TEST_F(Stop, TrainingSavesACheckpointAndGoesOn) {
  const std::vector<std::string> words = {"--do_train=true", "--dataset=rows", "--dataset_dir=" + work.string(),
                                          "--output_dir=" + out.string(), "--max_steps=4"};
  EXPECT_EQ(run(run_train, words, true), kExitStopped);
  EXPECT_TRUE(fs::exists(out / "checkpoint-1"));
  EXPECT_FALSE(fs::exists(out / "adapter_model.safetensors"));
  EXPECT_EQ(run(run_train, words, false), 0);
  EXPECT_TRUE(fs::exists(out / "adapter_model.safetensors"));
}

}  // namespace
}  // namespace loraine::commands_test
