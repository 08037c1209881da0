// Run files against those of LLaMA-Factory, byte for byte except times and speeds; and the rules of resuming, best and early stop.
#include "loraine/train/records/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <regex>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::metrics_test {
namespace {

namespace fs = std::filesystem;
const std::string kRuns = LORAINE_SOURCE_DIR "/../shared/golden/llamafactory/runs";

std::vector<std::string> run_folders() {
  std::vector<std::string> out;
  if (fs::exists(kRuns))
    for (const auto& entry : fs::directory_iterator(kRuns)) out.push_back(entry.path().string());
  return out;
}

std::string fresh_folder(const char* name) {
  const std::string path = testing::TempDir() + "/loraine_metrics_" + name;
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

TEST(TrainerState, EqualsReferenceBytes) {
  if (run_folders().empty()) GTEST_SKIP() << "no reference runs in " << kRuns;
  int compared = 0;
  for (const std::string& run : run_folders()) {
    for (const auto& entry : fs::recursive_directory_iterator(run)) {
      if (entry.path().filename() != "trainer_state.json") continue;
      const std::string folder = entry.path().parent_path().string();
      EXPECT_EQ(trainer_state_text(read_trainer_state(folder)), read_file(entry.path().string())) << folder;
      ++compared;
    }
  }
  EXPECT_GE(compared, 70);
}

// Times and speeds replaced by a mark.
std::string masked(const std::string& line) {
  return std::regex_replace(line, std::regex(R"re("(elapsed_time|remaining_time)": "[^"]*"|"(throughput)": [0-9.]+)re"), "\"$1$2\": ~");
}

TEST(TrainerLog, EqualsReferenceLines) {
  if (run_folders().empty()) GTEST_SKIP() << "no reference runs in " << kRuns;
  int lines = 0;
  for (const std::string& run : run_folders()) {
    if (run.ends_with("sft_resume")) continue;  // its log holds the lines of two runs
    const TrainerState whole = read_trainer_state(run + "/output");
    std::ifstream file(run + "/output/trainer_log.jsonl");
    TrainerState state = whole;
    state.log_history.clear();
    for (const OrderedJson& entry : whole.log_history) {
      state.log_history.push_back(entry);
      state.global_step = entry["step"];
      state.num_input_tokens_seen = entry.value("num_input_tokens_seen", int64_t{0});
      std::string expected;
      ASSERT_TRUE(std::getline(file, expected)) << run;
      EXPECT_EQ(masked(trainer_log_line(state, 1.0)), masked(expected)) << run;
      ++lines;
    }
    std::string rest;
    EXPECT_FALSE(std::getline(file, rest)) << run << ": " << rest;
  }
  EXPECT_GT(lines, 300);
}

TEST(Results, EqualReferenceBytes) {
  if (run_folders().empty()) GTEST_SKIP() << "no reference runs in " << kRuns;
  int compared = 0;
  for (const std::string& run : run_folders()) {
    const std::string folder = fresh_folder("results");
    for (const std::string split : {"train", "eval"}) {
      const std::string expected = run + "/output/" + split + "_results.json";
      if (!fs::exists(expected)) continue;
      write_results(folder, split, OrderedJson::parse(read_file(expected)));
      EXPECT_EQ(read_file(folder + "/" + split + "_results.json"), read_file(expected)) << expected;
      ++compared;
    }
    EXPECT_EQ(read_file(folder + "/all_results.json"), read_file(run + "/output/all_results.json")) << run;
  }
  EXPECT_GE(compared, 39);
}

TEST(TrainerState, EntriesAreBuiltAsTheReferenceHasThem) {
  TrainerState state;
  state.epoch = 0.25;
  state.global_step = 2;
  state.max_steps = 12;
  state.num_input_tokens_seen = 322;
  append_log(state, {{"loss", 5.488424301147461}, {"grad_norm", 1.472690463066101}, {"learning_rate", 0.005}}, true, 0.23534);
  EXPECT_EQ(python_json(state.log_history[0], -1, true),
            R"({"epoch": 0.25, "grad_norm": 1.472690463066101, "learning_rate": 0.005, "loss": 5.488424301147461, )"
            R"("num_input_tokens_seen": 322, "step": 2, "train_runtime": 0.2353, "train_tokens_per_second": 1368.233})");
  EXPECT_EQ(trainer_log_line(state, 0.235),
            R"({"current_steps": 2, "total_steps": 12, "loss": 5.488424301147461, "lr": 0.005, "epoch": 0.25, "percentage": 16.67, )"
            R"("elapsed_time": "0:00:00", "remaining_time": "0:00:01", "throughput": 1370.21, "total_tokens": 322})");
  OrderedJson evaluation = {{"eval_loss", 5.0}, {"eval_accuracy", 0.5}};
  add_speed(evaluation, "eval", 0.5, 7, 4);
  append_log(state, evaluation);
  EXPECT_EQ(python_json(state.log_history[1], -1, false),
            R"({"eval_loss": 5.0, "eval_accuracy": 0.5, "eval_runtime": 0.5, "eval_samples_per_second": 14.0, )"
            R"("eval_steps_per_second": 8.0, "epoch": 0.25, "step": 2})");
}

TEST(TrainerState, RefusesDamage) {
  const std::string folder = fresh_folder("damage");
  for (const std::string& text :
       {std::string(""), std::string("[]"), std::string("{\"log_history\": 3}"), std::string("{\"log_history\": [1]}"),
        std::string("{\"a\":") + std::string(5000, '['), std::string("{}")}) {
    write_file(folder + "/trainer_state.json", text);
    try {
      read_trainer_state(folder);
      ADD_FAILURE() << text.substr(0, 40);
    } catch (const Error& error) { EXPECT_EQ(error.kind, ErrorKind::bad_data); }
  }
}

TEST(TrainerLog, ResumeDropsLaterLinesAndTheSummary) {
  const std::string folder = fresh_folder("resume");
  TrainerState state;
  state.max_steps = 10;
  for (int step = 1; step <= 7; ++step) {
    state.global_step = step;
    append_log(state, {{"loss", 1.5}, {"learning_rate", 0.1}});
    append_trainer_log(folder, state, step);
  }
  append_log(state, {{"train_loss", 1.5}});
  append_trainer_log(folder, state, 8);
  std::ofstream(folder + "/trainer_log.jsonl", std::ios::app) << "{\"current_steps\": 3, \"lo";  // cut off
  begin_trainer_log(folder, 5);
  const std::string text = read_file(folder + "/trainer_log.jsonl");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5);
  EXPECT_NE(text.find("\"current_steps\": 5"), std::string::npos);
  EXPECT_EQ(text.find("\"current_steps\": 6"), std::string::npos);
  begin_trainer_log(folder, std::nullopt);
  EXPECT_FALSE(fs::exists(folder + "/trainer_log.jsonl"));
}

TEST(EarlyStopping, FollowsTheReferenceRun) {
  TrainerState state;
  state.early_stopping.patience = 2;
  const double losses[] = {5.412282943725586, 5.240907192230225, 5.324019908905029, 5.278298854827881};
  const bool stops[] = {false, false, false, true};
  for (int i = 0; i < 4; ++i) {
    state.global_step = 2 * (i + 1);
    EXPECT_EQ(early_stop(state, losses[i], false), stops[i]) << i;
    note_best(state, losses[i], false);
  }
  EXPECT_EQ(state.best_global_step, 4);
  EXPECT_EQ(*state.best_metric, losses[1]);
  state.early_stopping = {1, 0.1, 0};
  EXPECT_TRUE(early_stop(state, 5.2, false));   // better, but by less than the threshold
  EXPECT_FALSE(early_stop(state, 5.0, false));  // the counter starts again
  EXPECT_FALSE(note_best(state, 5.0, true));
}

TEST(Flos, EqualsReferenceRun) {
  // sft_early_stopping: 8 steps of 2 rows padded to 72; tiny_llama has 37640 parameters outside its embedding, its adapter 5312.
  EXPECT_EQ(training_flos(8 * 2 * 72, 37640 + 5312), 296884224.0);
  EXPECT_EQ(epoch_count(12, 8, 1.0), 2);
  EXPECT_EQ(epoch_count(0, 8, 2.5), 3);
}

}  // namespace
}  // namespace loraine::metrics_test
