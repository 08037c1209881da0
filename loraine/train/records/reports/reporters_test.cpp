// What report_to names, and the files that a run, a resumed run and a run anew leave for it.
#include "loraine/train/records/reports/reporters.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::reporters_test {
namespace {

namespace fs = std::filesystem;

TrainConfig config_in(const char* name, const std::string& report_to) {
  TrainConfig config;
  config.output_dir = testing::TempDir() + "/loraine_reports_" + name;
  config.report_to = report_to;
  fs::remove_all(config.output_dir);
  return config;
}

OrderedJson entry(int64_t step, double loss) { return {{"loss", loss}, {"epoch", 0.5}, {"step", step}}; }

std::vector<OrderedJson> lines_of(const std::string& path) {
  std::vector<OrderedJson> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(OrderedJson::parse(line));
  return lines;
}

std::vector<std::string> trackers_of(const std::string& names, bool use_swanlab = false) {
  TrainConfig config;
  config.report_to = names;
  config.use_swanlab = use_swanlab;
  return report_targets(config).trackers;
}

std::string refusal(const std::string& names, ErrorKind kind) {
  try {
    trackers_of(names);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, kind);
    return error.what() + ("; " + error.hint);
  }
  return "taken";
}

TEST(ReportTo, NamesAreRead) {
  EXPECT_TRUE(trackers_of("none").empty());
  EXPECT_EQ(trackers_of("trackio, wandb"), (std::vector<std::string>{"wandb", "trackio"}));
  EXPECT_EQ(trackers_of("tensorboard", true), (std::vector<std::string>{"swanlab"}));
  EXPECT_EQ(trackers_of("swanlab", true), (std::vector<std::string>{"swanlab"}));
  EXPECT_EQ(trackers_of("all").size(), 4u);
  TrainConfig none;
  none.report_to.reset();
  EXPECT_FALSE(report_targets(none).any());
}

TEST(ReportTo, UnknownNamesAreRefused) {
  EXPECT_NE(refusal("tensorbord", ErrorKind::usage).find("did you mean 'tensorboard'"), std::string::npos);
  EXPECT_NE(refusal("none,wandb", ErrorKind::usage).find("none stands beside"), std::string::npos);
  for (const char* name : {"comet_ml", "clearml", "codecarbon", "dvclive", "flyte", "neptune", "azure_ml", "dagshub", "kubeflow"})
    EXPECT_NE(refusal(name, ErrorKind::unsupported).find(name), std::string::npos);
}

TEST(ReportTo, KeysThatNothingReadsAreNamed) {
  TrainConfig config;
  config.given = {"swanlab_project", "run_name", "logging_dir", "project", "seed"};
  EXPECT_EQ(unread_report_keys(config), "logging_dir, project, run_name, swanlab_project");
  config.report_to = "all";
  EXPECT_EQ(unread_report_keys(config), "");
}

TEST(Reporters, NothingIsWrittenWithoutAName) {
  const TrainConfig config = config_in("none", "none");
  Reporters reporters;
  reporters.begin(config, {}, {});
  reporters.log(entry(1, 2.0));
  EXPECT_TRUE(reporters.end().empty());
  EXPECT_FALSE(fs::exists(config.output_dir));
}

TEST(Reporters, TagsAreTransformers) {
  EXPECT_EQ(report_tag("loss"), "train/loss");
  EXPECT_EQ(report_tag("eval_loss"), "eval/loss");
  EXPECT_EQ(report_tag("test_x_y"), "test/x_y");
  EXPECT_EQ(report_tag("evaluated"), "train/evaluated");
}

TEST(Reporters, AResumedRunGoesOn) {
  TrainConfig config = config_in("resume", "all");
  config.run_name = "lessons";
  const std::string report = config.output_dir + "/report";
  {
    Reporters reporters;
    reporters.begin(config, {{"model_type", "llama"}}, {});
    for (int64_t step = 1; step <= 4; ++step) reporters.log(entry(step, 4.0 - static_cast<double>(step)));
    reporters.log({{"train_loss", 1.0}, {"step", 4}});
    EXPECT_EQ(reporters.end().size(), 2u);
  }
  write_file(report + "/sent.json", "{}");
  std::ofstream(report + "/metrics.jsonl", std::ios::app) << "{\"step\": 3, \"lo";  // cut off
  const OrderedJson run = OrderedJson::parse(read_file(report + "/run.json"));
  EXPECT_EQ(run["name"], "lessons");
  EXPECT_EQ(run["model_config"]["model_type"], "llama");
  EXPECT_EQ(run["trackers"]["wandb"]["project"], "llamafactory");
  EXPECT_EQ(run["trackers"]["trackio"]["project"], "huggingface");
  {
    Reporters reporters;
    reporters.begin(config, {}, 3);
    reporters.log(entry(4, 0.5));
  }
  EXPECT_EQ(OrderedJson::parse(read_file(report + "/run.json"))["id"], run["id"]);
  EXPECT_TRUE(fs::exists(report + "/sent.json"));
  const std::vector<OrderedJson> lines = lines_of(report + "/metrics.jsonl");
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[2]["step"], 3);
  EXPECT_EQ(lines[3]["step"], 4);
  EXPECT_EQ(lines[3]["loss"], 0.5);
  EXPECT_EQ(lines[3]["epoch"], 0.5);
  size_t folders = 0, files = 0;
  for (const auto& folder : fs::directory_iterator(config.output_dir + "/runs")) {
    ++folders;
    for ([[maybe_unused]] const auto& file : fs::directory_iterator(folder)) ++files;
  }
  EXPECT_EQ(folders, 1u);
  EXPECT_EQ(files, 2u);
  Reporters anew;
  anew.begin(config, {}, {});
  EXPECT_NE(OrderedJson::parse(read_file(report + "/run.json"))["id"], run["id"]);
  EXPECT_TRUE(lines_of(report + "/metrics.jsonl").empty());
  EXPECT_FALSE(fs::exists(report + "/sent.json"));
}

TEST(Reporters, TheFolderOfEventsCanBeGiven) {
  TrainConfig config = config_in("given", "tensorboard");
  config.logging_dir = config.output_dir + "/elsewhere";
  Reporters reporters;
  reporters.begin(config, {}, {});
  EXPECT_EQ(reporters.end().at(0), "report: tensorboard --logdir " + *config.logging_dir);
  EXPECT_FALSE(fs::exists(config.output_dir + "/runs"));
  EXPECT_FALSE(fs::exists(config.output_dir + "/report"));
}

TEST(Reporters, ALogThatCannotBeWrittenIsAnError) {
  const TrainConfig config = config_in("lost", "jsonl");
  Reporters reporters;
  reporters.begin(config, {}, {});
  fs::remove_all(config.output_dir);
  try {
    reporters.log(entry(1, 1.0));
    FAIL() << "the line went nowhere";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::io);
    EXPECT_NE(std::string(error.what()).find("metrics.jsonl"), std::string::npos);
  }
}

}  // namespace
}  // namespace loraine::reporters_test
