// Schedules against what transformers computed, and the rules around warm-up and settings.
#include "loraine/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"

namespace loraine {
namespace {

using Json = nlohmann::json;

TEST(Schedule, EqualsTransformers) {
  const std::string path = LORAINE_SOURCE_DIR "/../shared/golden/peft/schedules.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no reference file " << path;
  std::ifstream file(path);
  const Json cases = Json::parse(file);
  ASSERT_GE(cases.size(), 18u);
  for (const Json& c : cases) {
    const Schedule schedule(c["lr_scheduler_type"], c["base_lr"], c["total_steps"], c["warmup_steps"], c["lr_scheduler_kwargs"]);
    const std::vector<double> expected = c["lr"];
    for (size_t i = 0; i < expected.size(); ++i) {
      const double got = schedule.rate(static_cast<int64_t>(i));
      EXPECT_LE(std::abs(got - expected[i]), 1e-9 * std::abs(expected[i]) + 1e-18)
          << c["lr_scheduler_type"] << " warmup " << c["warmup_steps"] << " step " << i << ": " << got << " vs " << expected[i];
    }
  }
}

TEST(Schedule, EqualsTrainingRuns) {
  const std::string runs = LORAINE_SOURCE_DIR "/../shared/golden/llamafactory/runs/";
  if (!std::filesystem::exists(runs)) GTEST_SKIP() << "no reference runs in " << runs;
  struct Run {
    const char *name, *type;
    double lr, warmup_steps;
    std::optional<double> ratio;
    int64_t total;
    Json kwargs;
  };
  const std::vector<Run> cases = {
      {"sft_full_qwen3", "warmup_stable_decay", 1e-3, 3, std::nullopt, 15, Json::object()},
      {"sft_lora", "cosine", 1e-2, 0, 0.1, 12, Json::object()},
      {"sft_lora_qwen3", "linear", 1e-2, 3, std::nullopt, 16, Json::object()},
      {"sft_early_stopping", "constant", 5e-2, 0, 0.1, 20, Json::object()},
      {"sft_lora_batch_accumulation", "constant_with_warmup", 1e-2, 0, 0.1, 12, Json::object()},
      {"sft_train_on_prompt", "inverse_sqrt", 1e-2, 2, std::nullopt, 10, Json::object()},
  };
  for (const Run& run : cases) {
    const int64_t warmup = warmup_step_count(run.warmup_steps, run.ratio, run.total);
    const Schedule schedule(run.type, run.lr, run.total, warmup, scheduler_kwargs_with_defaults(run.type, run.kwargs, run.total, warmup));
    std::ifstream file(runs + run.name + "/output/trainer_state.json");
    const Json state = Json::parse(file);
    int compared = 0;
    for (const Json& entry : state["log_history"]) {
      if (!entry.contains("learning_rate")) continue;
      const double expected = entry["learning_rate"];
      EXPECT_NEAR(schedule.rate(entry["step"].get<int64_t>() - 1), expected, 1e-9 * std::abs(expected)) << run.name << entry["step"];
      ++compared;
    }
    EXPECT_GT(compared, 5) << run.name;
  }
}

TEST(Schedule, WarmupSteps) {
  EXPECT_EQ(warmup_step_count(0, 0.1, 12), 2);              // ceil(1.2)
  EXPECT_EQ(warmup_step_count(0.25, std::nullopt, 10), 3);  // below 1: a share
  EXPECT_EQ(warmup_step_count(7, std::nullopt, 100), 7);
  EXPECT_EQ(warmup_step_count(5, 3.0, 100), 3);  // a ratio of 1 or more is a number of steps, and goes first
  EXPECT_EQ(warmup_step_count(0, 0.0, 100), 0);
  EXPECT_THROW(warmup_step_count(-1, std::nullopt, 100), Error);
  EXPECT_THROW(warmup_step_count(std::nan(""), std::nullopt, 100), Error);
}

TEST(Schedule, RefusesWhatItDoesNotKnow) {
  EXPECT_THROW(Schedule("cosinus", 1e-3, 10, 0), Error);
  EXPECT_THROW(Schedule("linear", 1e-3, 10, 0, Json{{"num_cycles", 2}}), Error);
  EXPECT_THROW(Schedule("cosine", 1e-3, 10, 0, Json{{"num_cycles", "two"}}), Error);
  EXPECT_THROW(Schedule("cosine", 1e-3, 10, 0, Json::array()), Error);
  EXPECT_THROW(Schedule("cosine_with_min_lr", 1e-3, 10, 0), Error);
  EXPECT_THROW(Schedule("polynomial", 1e-3, 10, 0, Json{{"lr_end", 1e-2}}), Error);
  EXPECT_THROW(Schedule("warmup_stable_decay", 1e-3, 10, 0), Error);
}

TEST(Schedule, PlateauHalvesAfterPatienceAndSurvivesACheckpoint) {
  const Json kwargs = {{"factor", 0.5}, {"patience", 1}};
  Schedule schedule("reduce_lr_on_plateau", 1e-2, 100, 0, kwargs);
  schedule.observe(1.0);
  schedule.observe(1.0);  // first without improvement
  EXPECT_DOUBLE_EQ(schedule.rate(5), 1e-2);
  Schedule resumed("reduce_lr_on_plateau", 1e-2, 100, 0, kwargs);
  resumed.load_state(schedule.state());
  resumed.observe(1.0);  // second: more than the patience
  EXPECT_DOUBLE_EQ(resumed.rate(6), 5e-3);
  resumed.observe(0.5);
  resumed.observe(0.5);
  EXPECT_DOUBLE_EQ(resumed.rate(7), 5e-3);
  EXPECT_THROW(resumed.load_state(Json{{"best", "x"}}), Error);
}

}  // namespace
}  // namespace loraine
