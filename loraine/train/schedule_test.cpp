// Schedules against what transformers computed, and the rules around warm-up and settings.
#include "loraine/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"

namespace loraine::schedule_test {
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

// What transformers 5.24 over torch gives for a peak of 1e-3, 3 or no updates of warm-up and 10 in all.
TEST(Schedule, CosineWithAWarmUpOfItsOwn) {
  const std::vector<double> falling = {0.0009554359905560886,
                                       0.0008305704108364302,
                                       0.0006501344202803415,
                                       0.0004498655797196586,
                                       0.00026942958916356994,
                                       0.00014456400944391147,
                                       0.0001,
                                       0.0001445640094439114};
  const Schedule plain("cosine_warmup_with_min_lr", 1e-3, 10, 3, Json{{"min_lr_rate", 0.1}});
  const Schedule lifted("cosine_warmup_with_min_lr", 1e-3, 10, 3, Json{{"min_lr", 1e-4}, {"warmup_lr_rate", 0.2}});
  const std::vector<double> rise = {0.001 / 3, 0.002 / 3, 0.001}, lifted_rise = {0.0002, 0.0006, 0.001};
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(plain.rate(i), rise[static_cast<size_t>(i)], 1e-15);
    EXPECT_NEAR(lifted.rate(i), lifted_rise[static_cast<size_t>(i)], 1e-15);
  }
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(plain.rate(i + 3), falling[static_cast<size_t>(i)], 1e-15) << i;
    EXPECT_NEAR(lifted.rate(i + 3), falling[static_cast<size_t>(i)], 1e-15) << i;
  }
  const Schedule at_once("cosine_warmup_with_min_lr", 1e-3, 10, 0, Json{{"min_lr_rate", 0.1}});
  EXPECT_NEAR(at_once.rate(0), 0.0009779754323328191, 1e-15);
  EXPECT_NEAR(at_once.rate(9), 0.0001, 1e-15);
}

// Rates after each evaluation, by torch's scheduler.
TEST(Schedule, PlateauEqualsTorch) {
  const std::vector<double> losses = {1.0, 0.9, 0.89999, 0.95, 0.9, 0.8, 0.85, 0.85, 0.85, 0.85, 0.85, 0.85};
  struct Case {
    Json kwargs;
    double sign;
    std::vector<double> rates;
  };
  const std::vector<Case> cases = {
      {{{"factor", 0.5}, {"patience", 1}}, 1, {1e-3, 1e-3, 1e-3, 5e-4, 5e-4, 5e-4, 5e-4, 2.5e-4, 2.5e-4, 1.25e-4, 1.25e-4, 6.25e-5}},
      {{{"factor", 0.1}, {"patience", 0}, {"cooldown", 2}, {"min_lr", 2e-5}},
       1,
       {1e-3, 1e-3, 1e-4, 1e-4, 1e-4, 1e-4, 2e-5, 2e-5, 2e-5, 2e-5, 2e-5, 2e-5}},
      {{{"mode", "max"}, {"factor", 0.5}, {"patience", 2}, {"threshold", 0.01}, {"threshold_mode", "abs"}},
       -1,
       {1e-3, 1e-3, 1e-3, 1e-3, 5e-4, 5e-4, 5e-4, 5e-4, 2.5e-4, 2.5e-4, 2.5e-4, 1.25e-4}},
  };
  for (const Case& c : cases) {
    Schedule schedule("reduce_lr_on_plateau", 1e-3, 100, 5, c.kwargs);
    for (size_t i = 0; i < losses.size(); ++i) {
      schedule.observe(c.sign * losses[i]);
      EXPECT_NEAR(schedule.rate(static_cast<int64_t>(i)), c.rates[i], 1e-15) << c.kwargs << " evaluation " << i;
    }
  }
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
}  // namespace loraine::schedule_test
