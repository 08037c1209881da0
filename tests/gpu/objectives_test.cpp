// Objectives of preferences and scores over passes on the GPU against the same over the CPU's: loss, figures, gradients of the adapter and
// of a scalar head; the same bits in every order.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "loraine/model/attach.h"
#include "loraine/train/gpu/gpu_training.h"
#include "loraine/train/objectives/objective.h"
#include "loraine/train/optimizers/recipe.h"
#include "tests/support/any_model.h"
#include "tests/support/formula_model.h"
#include "tests/support/gpu_check.h"
#include "tests/support/objective_memory.h"

namespace loraine::gpu_objectives_test {
namespace {

constexpr int32_t kWords = 61;

Example prompt_and_answer(int32_t prompt, int32_t answer, int32_t seed) {
  std::vector<int32_t> ids, labels;
  for (int32_t i = 0; i < prompt + answer; ++i) {
    ids.push_back((i < prompt ? i * 5 + 3 : i * 7 + seed * 13 + 1) % kWords);
    labels.push_back(i < prompt ? kIgnoreLabel : ids.back());
  }
  return {ids, labels};
}

struct Outcome {
  double loss = 0, norm = 0;
  std::vector<float> gradients, updated;
  OrderedJson figures;
};

// One update of two items; on the GPU where device says so.
Outcome one_update(const TrainConfig& config, const Model& model, std::span<const Item> items, bool on_gpu, bool training) {
  const std::unique_ptr<Objective> objective = make_objective(config);
  LoraConfig lora;
  lora.r = 3, lora.lora_alpha = 6;
  set_targets(lora, "all");
  name_targets(lora, model);
  AdapterSet set = attach_adapter(model, lora, true);
  objective->begin({model, nlohmann::json{{"summary_dropout_prob", 0.2}}, "/nowhere", 1});
  std::vector<Parameter> parameters = set.parameters();
  for (const Parameter& p : parameters)
    for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] = noise(static_cast<size_t>(i), p.name.size());
  for (const Parameter& own : objective->parameters()) parameters.push_back(own);
  zero_gradients(parameters);
  Recipe recipe = recipe_of(config, model.config, parameters, 0);
  Optimizer optimizer(parameters, std::move(recipe));
  int64_t rows = 0, beside = 0;
  for (const Item& item : items) rows += item_rows(*objective, item).trained, beside += item_rows(*objective, item).beside;
  Context ctx;
  ctx.seed = 3, ctx.step = 1;
  LoggedFigures figures;
  Outcome out;
  const ItemsBatch made = batch_of(*objective, items);
  const int64_t T = made.batch.rows();
  if (training) objective->begin_update(items, 1);
  if (on_gpu) {
    GpuTraining gpu(config, model, set, optimizer, {rows, Recompute::none, objective->needs_side() ? beside : 0, objective->parameters()});
    gpu.put();
    gpu.zero_gradients();
    SidePass side(model, [&](const Batch& batch, bool adapted) { return gpu.side_losses(batch, adapted); });
    Arena scratch(64 + objective->scratch_bytes_beside_gpu(model, rows));
    gpu.forward(ctx, made.batch, training, 0);
    const Tensor d = training ? gpu.d_hidden().row_range(0, T) : Tensor();
    out.loss = objective->loss(
        {ctx, model, &set, items, made.batch, Tensor(), d, scratch, &side, nullptr, figures, made.trained_rows, &gpu.decoder()});
    if (training) {
      gpu.backward();
      const GpuTraining::Updated updated = gpu.update(1e-2, 1);
      out.norm = updated.norm, out.loss += updated.loss;
      EXPECT_TRUE(updated.values_finite);
      gpu.fetch();
    }
  } else {
    ObjectiveMemory memory(model, set, *objective, rows, training);
    SidePass side(model, beside, &set);
    decoder_forward(ctx, model, made.batch, memory.pass);
    const Tensor d = training ? memory.d_hidden.row_range(0, T) : Tensor();
    out.loss = objective->loss(
        {ctx, model, &set, items, made.batch, memory.hidden(T), d, memory.scratch, &side, nullptr, figures, made.trained_rows});
    if (training) {
      decoder_backward(ctx, model, made.batch, memory.pass, set, d);
      out.norm = optimizer.gradient_norm(ctx);
      optimizer.step(ctx, 1e-2, out.norm, config.max_grad_norm);
    }
  }
  out.figures = figures.values();
  for (const Parameter& p : parameters) {
    out.gradients.insert(out.gradients.end(), p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
    out.updated.insert(out.updated.end(), p.value.f32(), p.value.f32() + p.value.numel());
  }
  return out;
}

double apart(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0, worst = 0;
  for (const float value : b) largest = std::max(largest, std::abs(static_cast<double>(value)));
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return worst / largest;
}

void compare(const TrainConfig& config, const LoadOptions& options = {}) {
  SCOPED_TRACE(config.stage + " " + config.pref_loss);
  const Model model = any_model({{"model_type", "llama"},
                                 {"vocab_size", kWords},
                                 {"hidden_size", 24},
                                 {"intermediate_size", 40},
                                 {"num_hidden_layers", 2},
                                 {"num_attention_heads", 4},
                                 {"head_dim", 8},
                                 {"num_key_value_heads", 2},
                                 {"max_position_embeddings", 64}},
                                options);
  const std::vector<Example> first = {prompt_and_answer(4, 6, 1), prompt_and_answer(3, 4, 2)},
                             second = {prompt_and_answer(4, 3, 3), prompt_and_answer(3, 7, 4)};
  const std::vector<Item> items = {{&first[0], &second[0], true}, {&first[1], &second[1], false}};
  for (const bool training : {true, false}) {
    const Outcome cpu = one_update(config, model, items, false, training);
    Outcome gpu;
    const std::vector<float> gradients = in_all_orders([&](GpuStream&) {
      gpu = one_update(config, model, items, true, training);
      std::vector<float> all = gpu.gradients;
      all.insert(all.end(), gpu.updated.begin(), gpu.updated.end());
      return all;
    });
    const double limit = options.bf16 ? 0.1 : 1e-5;
    EXPECT_NEAR(gpu.loss, cpu.loss, limit * std::max(1.0, std::abs(cpu.loss)));
    ASSERT_EQ(gpu.figures.size(), cpu.figures.size());
    for (const auto& [name, figure] : cpu.figures.items())
      EXPECT_NEAR(gpu.figures.at(name).get<double>(), figure.get<double>(), 10 * limit * std::max(1.0, std::abs(figure.get<double>())))
          << name;
    if (!training || options.bf16) continue;
    EXPECT_NEAR(gpu.norm, cpu.norm, 1e-5 * cpu.norm);
    EXPECT_LT(apart(gpu.gradients, cpu.gradients), 2e-5);
    EXPECT_LT(apart(gpu.updated, cpu.updated), 1e-3);
  }
}

TrainConfig config_of(const char* stage, const char* loss = "sigmoid") {
  TrainConfig c;
  c.stage = stage, c.pref_loss = loss;
  c.pref_beta = 0.3;
  c.kto_rejected_weight = 1.4;
  return c;
}

TEST(GpuObjectives, Pairs) {
  for (const char* loss : {"sigmoid", "hinge", "ipo", "orpo", "simpo"}) compare(config_of("dpo", loss));
  TrainConfig more = config_of("dpo");
  more.pref_ftx = 0.3, more.pref_bco_weight = 0.4, more.ld_alpha = 0.5;
  compare(more);
  compare(config_of("dpo"), {true});
  compare(config_of("dpo"), {false, Quantisation{Dtype::NF4}});
}

TEST(GpuObjectives, Judgements) { compare(config_of("kto")); }

TEST(GpuObjectives, Scores) {
  compare(config_of("rm"));
  compare(config_of("rm"), {true});
}

}  // namespace
}  // namespace loraine::gpu_objectives_test
