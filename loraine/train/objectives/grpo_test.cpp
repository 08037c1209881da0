// The loss of stage grpo against trl's own trainer: the formula with its gradient and figures, advantages, and whole passes through a model
// with an adapter. Cases: tests/golden/make_grpo_cases.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "loraine/data/examples/batcher.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/model_files.h"
#include "loraine/io/open_tensors.h"
#include "loraine/model/attach.h"
#include "loraine/model/load.h"
#include "loraine/train/objectives/grpo_objective.h"
#include "loraine/train/objectives/label_logps.h"
#include "tests/support/apart.h"
#include "tests/support/objective_memory.h"

namespace loraine::grpo_test {
namespace {

namespace fs = std::filesystem;
const fs::path kGrpoSource = LORAINE_SOURCE_DIR;
const fs::path kGrpoCases = kGrpoSource / "tests/golden/grpo";
using TokenRows = std::vector<std::vector<double>>;

GrpoConfig grpo_of(const Json& settings, int64_t max_completion_length) {
  GrpoConfig c;
  c.max_completion_length = max_completion_length;
  c.loss_type = settings.value("loss_type", "dapo");
  c.importance_sampling_level = settings.value("importance_sampling_level", "token");
  c.beta = settings.value("beta", 0.0);
  c.epsilon = settings.value("epsilon", 0.2);
  c.top_entropy_quantile = settings.value("top_entropy_quantile", 1.0);
  if (settings.contains("epsilon_high")) c.epsilon_high = settings["epsilon_high"].get<double>();
  if (settings.contains("delta")) c.delta = settings["delta"].get<double>();
  return c;
}

std::vector<GrpoAnswer> answers_of(const TokenRows& logps, const TokenRows& old, const TokenRows& reference, const TokenRows& entropies,
                                   const std::vector<double>& advantages) {
  std::vector<GrpoAnswer> answers;
  for (size_t i = 0; i < logps.size(); ++i)
    answers.push_back(
        {logps[i], old.empty() ? std::span<const double>() : std::span<const double>(old[i]), reference[i], entropies[i], advantages[i]});
  return answers;
}

TEST(GrpoLoss, TrlsFormula) {
  const Json file = parse_json_file((kGrpoCases / "formula.json").string());
  const TokenRows logps = file["logps"], old = file["old"], reference = file["reference"], entropies = file["entropies"];
  const std::vector<double> advantages = file["advantages"];
  const auto micro_batches = file["accumulation"].get<double>(), tokens = file["num_items_in_batch"].get<double>();
  int cases = 0;
  for (const auto& [name, one] : file["cases"].items()) {
    const GrpoConfig config = grpo_of(one["settings"], file["max_completion_length"].get<int64_t>());
    const GrpoLoss found = grpo_loss(
        config, answers_of(logps, name.ends_with("_first") ? TokenRows() : old, reference, entropies, advantages), {micro_batches, tokens});
    EXPECT_NEAR(found.loss, one["loss"].get<double>(), 2e-7) << name;
    size_t t = 0;
    for (const auto& row : one["gradient"])
      for (const auto& d : row) EXPECT_NEAR(found.d_logps.at(t++), d.get<double>(), 2e-7) << name << " " << t;
    EXPECT_EQ(t, found.d_logps.size());
    const Json& figures = one["figures"];
    EXPECT_NEAR(found.entropy, figures["entropy"].get<double>(), 1e-6) << name;
    EXPECT_NEAR(found.low_clipped, figures["clip_ratio/low_mean"].get<double>(), 1e-6) << name;
    EXPECT_NEAR(found.high_clipped, figures["clip_ratio/high_mean"].get<double>(), 1e-6) << name;
    EXPECT_NEAR(found.low_clipped + found.high_clipped, figures["clip_ratio/region_mean"].get<double>(), 1e-6) << name;
    if (config.beta != 0) { EXPECT_NEAR(found.kl, figures["kl"].get<double>(), 1e-6) << name; }
    ++cases;
  }
  EXPECT_EQ(cases, 18);
}

TEST(GrpoLoss, TrlsAdvantages) {
  const Json file = parse_json_file((kGrpoCases / "formula.json").string());
  for (const auto& one : file["rewards"]) {
    std::vector<double> sums, first, second;
    for (const auto& row : one["rewards"]) {
      first.push_back(row[0].get<double>());
      second.push_back(row[1].get<double>() < -1e8 ? std::nan("") : row[1].get<double>());
      sums.push_back(first.back() + (std::isnan(second.back()) ? 0 : second.back()));
    }
    const Advantages found = advantages_of(sums, one["group"].get<int64_t>(), one["scale"].get<std::string>());
    ASSERT_EQ(found.values.size(), sums.size());
    for (size_t i = 0; i < sums.size(); ++i) EXPECT_NEAR(found.values[i], one["advantages"][i].get<double>(), 2e-6) << one["scale"];
    const Json& figures = one["figures"];
    EXPECT_NEAR(found.reward, figures["reward"].get<double>(), 1e-6);
    EXPECT_NEAR(found.reward_std, figures["reward_std"].get<double>(), 1e-6);
    EXPECT_NEAR(found.zero_std, figures["frac_reward_zero_std"].get<double>(), 1e-6);
    EXPECT_NEAR(spread_of(first).mean, figures["rewards/a/mean"].get<double>(), 1e-6);
    EXPECT_NEAR(spread_of(second).mean, figures["rewards/b/mean"].get<double>(), 1e-6);
    EXPECT_NEAR(spread_of(second).deviation, figures["rewards/b/std"].get<double>(), 1e-6);
  }
  EXPECT_EQ(advantages_of(std::vector<double>{3}, 1, "group").values, std::vector<double>{0});
}

// Every loss_type and level, the bounds of the ratio, the divergence and the share of tokens, against central differences.
TEST(GrpoLoss, GradientIsThatOfDifferences) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> uniform(-1, 1);
  const std::vector<size_t> lengths = {6, 1, 4};
  const auto rows = [&](double around, double spread) {
    TokenRows made;
    for (const size_t n : lengths) {
      std::vector<double>& row = made.emplace_back();
      for (size_t t = 0; t < n; ++t) row.push_back(around + spread * uniform(random));
    }
    return made;
  };
  TokenRows logps = rows(-2, 1);
  TokenRows old = logps, reference = logps;
  for (TokenRows* moved : {&old, &reference})
    for (auto& row : *moved)
      for (double& x : row) x += 0.3 * uniform(random);
  const TokenRows entropies = rows(1, 1);
  const std::vector<double> advantages = {1.1, -0.8, -0.4};
  for (const char* type : {"grpo", "bnpo", "dr_grpo", "dapo"})
    for (const char* level : {"token", "sequence"})
      for (const double beta : {0.0, 0.4})
        for (const double share : {1.0, 0.5}) {
          GrpoConfig config;
          config.loss_type = type;
          config.importance_sampling_level = level;
          config.beta = beta;
          config.top_entropy_quantile = share;
          config.epsilon = 0.1;
          config.delta = 1.25;
          const auto loss = [&] { return grpo_loss(config, answers_of(logps, old, reference, entropies, advantages), {3, 17}); };
          const std::vector<double> d = loss().d_logps;
          size_t at = 0;
          for (auto& row : logps)
            for (double& x : row) {
              const double here = x;
              x = here + 1e-6;
              const double up = loss().loss;
              x = here - 1e-6;
              const double down = loss().loss;
              x = here;
              EXPECT_NEAR(d[at], (up - down) / 2e-6, 1e-8) << type << level << beta << share << " " << at;
              ++at;
            }
        }
}

std::vector<float> recorded(const TensorSource& source, const std::string& name) {
  const TensorInfo* info = source.find(name);
  if (!info) return {};
  std::vector<float> values(static_cast<size_t>(Tensor(nullptr, Dtype::F32, info->shape).numel()));
  source.read(*info, Tensor(values.data(), Dtype::F32, info->shape));
  return values;
}

std::vector<int64_t> recorded_ids(const TensorSource& source, const std::string& name) {
  const Tensor at = source.map(*source.find(name));
  const auto* first = static_cast<const int64_t*>(at.data);
  return {first, first + at.numel()};
}

struct GrpoRan {
  double loss = 0;
  std::map<std::string, std::vector<float>> gradients;
  OrderedJson figures;
  std::vector<std::vector<double>> reference;  // log p by the base alone
};

// One micro-batch of the recorded answers through the model and back.
GrpoRan run_grpo(const TrainConfig& config, const TensorSource& source, const std::string& name) {
  const fs::path llama = kGrpoSource / "tests/golden/peft/llama";
  ModelFiles files = open_model_files((llama / "model").string());
  Model model = load_model(files, {});
  LoraConfig lora;
  AdapterSet set = load_adapter_to_train(model, (llama / "lora").string(), &lora, false);
  GrpoObjective objective(config);
  const std::vector<int64_t> ids = recorded_ids(source, "answers.input_ids"), labels = recorded_ids(source, "answers.labels"),
                             mask = recorded_ids(source, "answers.attention_mask");
  const std::vector<float> advantages = recorded(source, "advantages"), old = recorded(source, name + ".old"),
                           reference = recorded(source, name + ".reference");
  const size_t answers = advantages.size(), columns = ids.size() / answers, longest = old.size() / answers;
  std::vector<Example> examples(answers);
  std::vector<AnswerScore> scores(answers);
  double tokens = 0;
  for (size_t i = 0; i < answers; ++i) {
    std::vector<int32_t> own, of;
    for (size_t t = 0; t < columns && mask[i * columns + t]; ++t) {
      own.push_back(static_cast<int32_t>(ids[i * columns + t]));
      of.push_back(static_cast<int32_t>(labels[i * columns + t]));
    }
    const auto n = static_cast<size_t>(std::ranges::count_if(of, [](int32_t label) { return label != kIgnoreLabel; }));
    examples[i].input_ids = own;
    examples[i].labels = of;
    scores[i].advantage = static_cast<double>(advantages[i]);
    if (name != "first")
      scores[i].old_logps = {old.begin() + static_cast<ptrdiff_t>(i * longest), old.begin() + static_cast<ptrdiff_t>(i * longest + n)};
    scores[i].reference_logps = {reference.begin() + static_cast<ptrdiff_t>(i * longest),
                                 reference.begin() + static_cast<ptrdiff_t>(i * longest + n)};
    tokens += static_cast<double>(n);
  }
  std::vector<Item> items;
  for (size_t i = 0; i < answers; ++i) {
    scores[i].generation_tokens = tokens;
    items.push_back({.example = &examples[i], .score = &scores[i]});
  }
  const std::vector<const Example*> samples = samples_of(objective, items);
  Batch batch = make_batch(samples);
  batch.adapter_rows = {{0, batch.rows(), 0}};
  ObjectiveMemory memory(model, set, objective, batch.rows());
  SidePass side(model, batch.rows(), &set);
  Context ctx;
  zero_gradients(set.parameters());
  GrpoRan ran;
  LoggedFigures figures;
  objective.begin_update(items, config.gradient_accumulation_steps);
  decoder_forward(ctx, model, batch, memory.pass);
  ran.loss = objective.loss(
      {ctx, model, &set, items, batch, memory.hidden(batch.rows()), memory.d_hidden, memory.scratch, &side, nullptr, figures});
  decoder_backward(ctx, model, batch, memory.pass, set, memory.d_hidden);
  set.finish_gradients(ctx);
  ran.gradients = gradients_of(set.parameters());
  ran.figures = figures.values();
  const LossSums base = side.label_losses(ctx, batch, false, config.temperature);
  for (const AnswerLogp& one : answer_logps(samples, base)) {
    std::vector<double>& row = ran.reference.emplace_back();
    for (int64_t t = 0; t < one.labels; ++t) row.push_back(-base.tokens[static_cast<size_t>(one.first + t)]);
  }
  return ran;
}

TEST(GrpoLoss, ThroughAModelAsTrl) {
  const std::map<std::string, Json> cases = {{"grpo", {{"loss_type", "grpo"}, {"beta", 0.3}}},
                                             {"bnpo", {{"loss_type", "bnpo"}, {"temperature", 0.7}}},
                                             {"dr_grpo", {{"loss_type", "dr_grpo"}, {"beta", 0.1}, {"temperature", 1.5}}},
                                             {"dapo", {{"beta", 0.2}, {"temperature", 0.8}, {"epsilon_high", 0.28}}},
                                             {"sequence", {{"importance_sampling_level", "sequence"}, {"beta", 0.1}}},
                                             {"entropy", {{"top_entropy_quantile", 0.4}}},
                                             {"first", {{"temperature", 0.9}}}};
  const std::unique_ptr<TensorSource> source = open_tensor_source((kGrpoCases / "model.safetensors").string());
  for (const auto& [name, settings] : cases) {
    TrainConfig config;
    config.stage = "grpo";
    config.gradient_accumulation_steps = 2;
    config.grpo = grpo_of(settings, 9);
    config.temperature = settings.value("temperature", 1.0);
    config.given.insert("temperature");
    const GrpoRan ran = run_grpo(config, *source, name);
    const double loss = static_cast<double>(recorded(*source, name + ".loss").at(0));
    EXPECT_NEAR(ran.loss, loss, 1e-6 + 1e-5 * std::abs(loss)) << name;
    int compared = 0;
    for (const TensorInfo& info : source->tensors()) {
      if (const std::string begin = name + ".figure."; info.name.starts_with(begin)) {
        EXPECT_NEAR(ran.figures.at(info.name.substr(begin.size())).get<double>(), static_cast<double>(recorded(*source, info.name)[0]),
                    1e-5)
            << info.name;
        ++compared;
      }
      const std::string begin = name + ".grad.";
      if (!info.name.starts_with(begin)) continue;
      EXPECT_LT(most_apart(ran.gradients.at(info.name.substr(begin.size())), recorded(*source, info.name)), 2e-4) << info.name;
      ++compared;
    }
    EXPECT_GE(compared, 14) << name;
    const std::vector<float> reference = recorded(*source, name + ".reference");
    for (size_t i = 0; i < ran.reference.size(); ++i)
      for (size_t t = 0; t < ran.reference[i].size(); ++t)
        EXPECT_NEAR(ran.reference[i][t], static_cast<double>(reference[i * (reference.size() / ran.reference.size()) + t]), 1e-4) << name;
  }
}

}  // namespace
}  // namespace loraine::grpo_test
