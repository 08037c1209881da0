// Every objective over samples that share the rows of their prompts against the same over separate rows: loss, figures, gradients, and the
// rows that are computed.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "loraine/data/examples/batcher.h"
#include "loraine/model/attach.h"
#include "loraine/train/objectives/objective.h"
#include "tests/support/any_model.h"
#include "tests/support/formula_model.h"
#include "tests/support/objective_memory.h"

namespace loraine::shared_prompts_test {
namespace {

constexpr int32_t kWords = 61;

Example prompt_and_answer(int32_t prompt, int32_t which, int32_t answer, int32_t seed) {
  std::vector<int32_t> ids, labels;
  for (int32_t i = 0; i < prompt + answer; ++i) {
    ids.push_back(i < prompt ? (i * 5 + which * 11 + 3) % kWords : (i * 7 + seed * 13 + 1) % kWords);
    labels.push_back(i < prompt ? kIgnoreLabel : ids.back());
  }
  return {ids, labels};
}

struct Outcome {
  double loss = 0;
  std::map<std::string, std::vector<float>> gradients;
  OrderedJson figures;
  int64_t rows = 0;
};

Outcome one_update(const TrainConfig& config, const Model& model, std::span<const Item> items, bool share, bool training = true) {
  const std::unique_ptr<Objective> objective = make_objective(config);
  LoraConfig lora;
  lora.r = 4;
  lora.lora_alpha = 8;
  set_targets(lora, "all");
  name_targets(lora, model);
  AdapterSet set = attach_adapter(model, lora, true);
  objective->begin({model, nlohmann::json{{"summary_dropout_prob", 0.0}}, "/nowhere", 1});
  if (share) objective->share_prefixes(shares_up_to(model));
  std::vector<Parameter> parameters = set.parameters();
  for (const Parameter& p : parameters)
    for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] = noise(static_cast<size_t>(i), p.name.size());
  for (const Parameter& own : objective->parameters()) parameters.push_back(own);
  zero_gradients(parameters);
  Context ctx;
  set.refresh(ctx);
  int64_t rows = 0, beside = 0;
  for (const Item& item : items) {
    const ItemRows one = item_rows(*objective, item);
    rows += one.trained;
    beside += one.beside;
  }
  ObjectiveMemory memory(model, set, *objective, rows, training);
  SidePass side(model, beside, &set);
  LoggedFigures figures;
  Outcome out;
  objective->begin_update(items, 1);
  const ItemsBatch made = batch_of(*objective, items);
  EXPECT_LE(made.batch.rows(), rows);
  out.rows = made.batch.rows();
  decoder_forward(ctx, model, made.batch, memory.pass);
  const Tensor d = training ? memory.d_hidden.row_range(0, out.rows) : Tensor();
  out.loss = objective->loss(
      {ctx, model, &set, items, made.batch, memory.hidden(out.rows), d, memory.scratch, &side, nullptr, figures, made.trained_rows});
  out.figures = figures.values();
  if (!training) return out;
  const Batch trained = first_rows(made.batch, made.trained_rows);
  decoder_backward(ctx, model, trained, memory.pass, set, memory.d_hidden.row_range(0, trained.rows()));
  set.finish_gradients(ctx);
  out.gradients = gradients_of(parameters);
  return out;
}

// Of all gradients together, to their length: those of single tensors are differences of answers.
double distance(const Outcome& a, const Outcome& b) {
  double difference = 0, size = 1e-30;
  for (const auto& [name, gradient] : b.gradients) {
    const std::vector<float>& other = a.gradients.at(name);
    for (size_t i = 0; i < gradient.size(); ++i) {
      difference += (static_cast<double>(other[i]) - gradient[i]) * (static_cast<double>(other[i]) - gradient[i]);
      size += static_cast<double>(gradient[i]) * gradient[i];
    }
  }
  return std::sqrt(difference / size);
}

nlohmann::json tiny(const char* type, const nlohmann::json& own) {
  nlohmann::json config = {{"model_type", type},      {"vocab_size", kWords},     {"hidden_size", 32},
                           {"intermediate_size", 40}, {"num_hidden_layers", 2},   {"num_attention_heads", 4},
                           {"head_dim", 8},           {"num_key_value_heads", 2}, {"max_position_embeddings", 128}};
  if (!own.is_null()) config.update(own);
  return config;
}

// A vocabulary of rows of which the head takes more than one chunk: answers are long.
struct Case {
  const char* name;
  TrainConfig config;
};
std::vector<Case> cases() {
  std::vector<Case> all;
  const auto add = [&](const char* name, const char* stage, const auto& change) {
    TrainConfig c;
    c.stage = stage;
    c.pref_beta = 0.3;
    change(c);
    all.push_back({name, c});
  };
  add("sft", "sft", [](TrainConfig&) {});
  add("asft", "sft", [](TrainConfig& c) { c.use_asft_loss = true; });
  add("dpo", "dpo", [](TrainConfig&) {});
  add("ftx, bco, ld", "dpo", [](TrainConfig& c) { c.pref_ftx = 0.3, c.pref_bco_weight = 0.4, c.ld_alpha = 0.5; });
  for (const char* loss : {"hinge", "ipo", "orpo", "simpo"}) add(loss, "dpo", [&](TrainConfig& c) { c.pref_loss = loss; });
  add("rm", "rm", [](TrainConfig&) {});
  add("kto", "kto", [](TrainConfig& c) { c.kto_rejected_weight = 1.4; });
  return all;
}

TEST(SharedPrompts, GiveWhatSeparateRowsGive) {
  // Three questions, the last two of which begin alike; answers of other lengths.
  std::vector<Example> first, second;
  for (int32_t i = 0; i < 3; ++i) {
    first.push_back(prompt_and_answer(30 + 4 * i, i / 2, 70 + i, i));
    second.push_back(prompt_and_answer(30 + 4 * i, i / 2, 50 - 7 * i, 9 + i));
  }
  std::vector<Item> items;
  for (size_t i = 0; i < first.size(); ++i) items.push_back({&first[i], &second[i], i % 2 == 0});
  for (const nlohmann::json& config :
       {tiny("llama", {}), tiny("mistral", {{"sliding_window", 9}}),
        tiny("gemma2",
             {{"attn_logit_softcapping", 5.0}, {"final_logit_softcapping", 3.0}, {"sliding_window", 6}, {"query_pre_attn_scalar", 12}}),
        tiny("stablelm", {{"use_qkv_bias", true}, {"partial_rotary_factor", 0.5}})}) {
    const Model model = any_model(config);
    for (const Case& one : cases()) {
      SCOPED_TRACE(std::string(one.name) + ", " + config["model_type"].get<std::string>());
      const Outcome shared = one_update(one.config, model, items, true), apart = one_update(one.config, model, items, false);
      EXPECT_NEAR(shared.loss, apart.loss, 1e-6 * std::abs(apart.loss));
      EXPECT_LT(distance(shared, apart), 2e-6);
      for (const auto& [name, value] : apart.figures.items())
        EXPECT_NEAR(shared.figures.at(name).get<double>(), value.get<double>(), 1e-5 * std::max(1.0, std::abs(value.get<double>())))
            << name;
      const Outcome seen = one_update(one.config, model, items, true, false),
                    seen_apart = one_update(one.config, model, items, false, false);
      EXPECT_NEAR(seen.loss, seen_apart.loss, 1e-6 * std::abs(seen_apart.loss));
      if (one.config.stage == "dpo" || one.config.stage == "rm") EXPECT_EQ(apart.rows - shared.rows, 29 + 33 + 37 + 30);
    }
  }
}

// Two questions with four and three answers, in the order in which a generation is shuffled: every loss_type, the reference, old weights,
// the share of tokens by entropy.
TEST(SharedPrompts, OfAGroupsAnswersGiveWhatSeparateRowsGive) {
  constexpr int32_t kPrompts[] = {34, 41};
  std::vector<Example> answers;
  std::vector<AnswerScore> scores;
  for (const int32_t question : {1, 0, 0, 1, 0, 1, 0}) {
    const auto i = static_cast<int32_t>(answers.size()), length = 20 + 9 * i;
    answers.push_back(prompt_and_answer(kPrompts[question], question, length, i));
    AnswerScore score{0.3 * i - 0.8, 329, {}, {}};
    for (int32_t t = 0; t < length; ++t) {
      score.old_logps.push_back(-4.1 + 0.2 * static_cast<double>(noise(static_cast<size_t>(t), 5)));
      score.reference_logps.push_back(-4.2 + 0.2 * static_cast<double>(noise(static_cast<size_t>(t), 6)));
    }
    scores.push_back(score);
  }
  std::vector<Item> items;
  for (size_t i = 0; i < answers.size(); ++i) items.push_back({.example = &answers[i], .score = &scores[i]});
  const auto plain = [](TrainConfig&) {};
  std::vector<Case> all;
  const auto add = [&](const char* name, const auto& change) {
    TrainConfig c;
    c.stage = "grpo";
    c.grpo.beta = 0.2;
    change(c);
    all.push_back({name, c});
  };
  add("dapo", plain);
  for (const char* type : {"grpo", "bnpo", "dr_grpo"}) add(type, [&](TrainConfig& c) { c.grpo.loss_type = type; });
  add("sequence", [](TrainConfig& c) { c.grpo.importance_sampling_level = "sequence"; });
  add("entropy", [](TrainConfig& c) { c.grpo.top_entropy_quantile = 0.5; });
  for (const nlohmann::json& config : {tiny("llama", {}), tiny("mistral", {{"sliding_window", 9}})}) {
    const Model model = any_model(config);
    for (const Case& one : all) {
      SCOPED_TRACE(std::string(one.name) + ", " + config["model_type"].get<std::string>());
      const Outcome shared = one_update(one.config, model, items, true), apart = one_update(one.config, model, items, false);
      EXPECT_NEAR(shared.loss, apart.loss, 1e-6 * std::max(1.0, std::abs(apart.loss)));
      EXPECT_LT(distance(shared, apart), 1e-6);
      for (const auto& [name, value] : apart.figures.items())
        EXPECT_NEAR(shared.figures.at(name).get<double>(), value.get<double>(), 1e-5 * std::max(1.0, std::abs(value.get<double>())))
            << name;
      EXPECT_EQ(apart.rows - shared.rows, 3 * 33 + 2 * 40);
    }
  }
}

}  // namespace
}  // namespace loraine::shared_prompts_test
