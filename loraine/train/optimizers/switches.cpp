// Facts: LLaMA-Factory 0.9.5 (train/trainer_utils.py, hparams/finetuning_args.py, third_party/muon), badam 1.4, adam-mini 1.1, restated.
#include "loraine/train/optimizers/switches.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/train/optimizers/model_order.h"
#include "loraine/train/optimizers/rules/adam_mini.h"
#include "loraine/train/optimizers/rules/adamw.h"
#include "loraine/train/optimizers/rules/badam.h"
#include "loraine/train/optimizers/rules/muon.h"

namespace loraine {
namespace {

[[noreturn]] void broken_rule(const std::string& message, const std::string& hint) { throw Error(ErrorKind::usage, message, hint); }

bool low_rank_name(const std::string& optim) { return optim.starts_with("galore") || optim.starts_with("apollo"); }

std::vector<std::string> switched_on(const TrainConfig& c) {
  std::vector<std::string> on;
  for (const auto& [name, yes] : {std::pair{"use_galore", c.use_galore},
                                  {"use_apollo", c.use_apollo},
                                  {"use_badam", c.use_badam},
                                  {"use_adam_mini", c.use_adam_mini},
                                  {"use_muon", c.use_muon}})
    if (yes) on.emplace_back(name);
  return on;
}

Adam adam_of(const TrainConfig& c) { return {c.adam_beta1, c.adam_beta2, c.adam_epsilon}; }

BlockOrder::Mode mode_of(const std::string& name) {
  using Mode = BlockOrder::Mode;
  return name == "descending" ? Mode::descending : name == "random" ? Mode::random : name == "fixed" ? Mode::fixed : Mode::ascending;
}

// AdamW with the default decay of torch, which badam gives every parameter of a block; embedding, last norm and head never train.
Recipe badam_by_layers(const TrainConfig& c, const ModelConfig& model, std::span<const Parameter> parameters) {
  constexpr double kDecay = 0.01;
  Recipe recipe = one_rule(std::make_unique<AdamWRule>(c.adam_beta1, c.adam_beta2, c.adam_epsilon), parameters, 0);
  for (Part& part : recipe.parts) part.decay = kDecay;
  BlockOrder order{.count = model.num_hidden_layers,
                   .mode = mode_of(c.badam_switch_mode.value_or("ascending")),
                   .interval = c.badam_switch_interval.value_or(50),
                   .seed = static_cast<uint64_t>(c.seed)};
  order.start = c.badam_start_block.value_or(order.mode == BlockOrder::Mode::descending ? order.count - 1 : 0);
  order.starts_given = c.badam_start_block.has_value();
  if (order.start >= order.count)
    broken_rule(fmt::format("badam_start_block is {}, and the model has {} layers, the first of which is 0", order.start, order.count),
                "name one of them");
  for (const Parameter& p : parameters) order.block_of.push_back(layer_of(p.name));
  recipe.blocks = std::move(order);
  return recipe;
}

Recipe badam_by_shares(const TrainConfig& c, std::span<const Parameter> parameters) {
  Recipe recipe;
  BlockOrder order{.count = 1, .mode = BlockOrder::Mode::fixed, .interval = 0};
  for (const Parameter& p : parameters) {
    const bool frozen = p.name.find("embed") != std::string::npos || p.name.find("lm_head") != std::string::npos;
    recipe.rules.push_back(std::make_unique<BAdamRatioRule>(adam_of(c), c.badam_update_ratio, c.badam_mask_mode == "scatter",
                                                            static_cast<uint64_t>(c.seed) + recipe.rules.size()));
    recipe.parts.push_back({recipe.rules.back().get(), 1, 0});
    order.block_of.push_back(frozen ? -1 : 0);
  }
  recipe.blocks = std::move(order);
  return recipe;
}

Recipe adam_mini_recipe(const TrainConfig& c, const ModelConfig& model, std::span<const Parameter> parameters) {
  const int64_t hidden = model.hidden_size, heads = std::max<int64_t>(1, model.num_attention_heads);
  Recipe recipe = one_rule(std::make_unique<AdamMiniRule>(adam_of(c), hidden * hidden / heads), parameters, 0);
  for (size_t i = 0; i < parameters.size(); ++i) recipe.parts[i].decay = adam_mini_decays(parameters[i].name) ? c.weight_decay : 0;
  return recipe;
}

Recipe muon_recipe(const TrainConfig& c, std::span<const Parameter> parameters) {
  Recipe recipe;
  recipe.rules.push_back(std::make_unique<MuonRule>());
  recipe.rules.push_back(std::make_unique<MuonAdamWRule>(adam_of(c)));
  for (const Parameter& p : parameters) {
    const bool muon = p.value.rank == 2 && p.name.find("embed") == std::string::npos && p.name.find("lm_head") == std::string::npos;
    recipe.parts.push_back({recipe.rules[muon ? 0 : 1].get(), 1, c.weight_decay});
  }
  return recipe;
}

void check_badam(const TrainConfig& c) {
  if (c.finetuning_type != "full")
    broken_rule(fmt::format("use_badam trains the layers of the base in turn, and finetuning_type is {}", c.finetuning_type),
                "set finetuning_type: full");
  if (c.badam_mode != "layer") return;
  if (c.badam_switch_mode == "fixed" && !c.badam_start_block)
    broken_rule("badam_switch_mode is fixed, and badam_start_block does not say which layer is trained", "set badam_start_block");
  if (c.badam_switch_interval == 0) broken_rule("badam_switch_interval is 0", "give a number of updates, or -1 to stay with one layer");
}

}  // namespace

bool is_switched(const TrainConfig& c) { return !switched_on(c).empty() || low_rank_name(c.optim); }

Recipe switched_recipe(const TrainConfig& c, const ModelConfig& model, std::span<const Parameter> parameters) {
  if (c.use_badam) return c.badam_mode == "ratio" ? badam_by_shares(c, parameters) : badam_by_layers(c, model, parameters);
  if (c.use_adam_mini) return adam_mini_recipe(c, model, parameters);
  if (c.use_muon) return muon_recipe(c, parameters);
  return low_rank_recipe(c, parameters);
}

void check_switches(const TrainConfig& c) {
  const std::vector<std::string> on = switched_on(c);
  if (on.size() > 1) broken_rule(fmt::format("{} exclude each other", fmt::join(on, " and ")), "leave all but one out");
  const std::string form = optimizer_form(c.optim);
  if (on.empty() && !low_rank_name(c.optim)) return;
  const std::string name = on.empty() ? "optim: " + c.optim : on.front();
  if (c.loraplus_lr_ratio) broken_rule("loraplus_lr_ratio and " + name + " exclude each other", "leave one of the two out");
  if (!on.empty()) {
    if (c.finetuning_type == "lora" && (c.use_galore || c.use_apollo || c.use_badam))
      broken_rule(fmt::format("{} trains the weights of the base, and finetuning_type is lora", name), "set finetuning_type: full");
    const bool galore = c.use_galore && (form == "adamw_8bit" || form == "adafactor");
    if (form != "adamw_torch" && !galore)
      broken_rule(fmt::format("{} and optim: {} are two optimizers", name, c.optim),
                  c.use_galore ? "with use_galore set optim to adamw_torch, adamw_8bit or adafactor" : "leave optim out");
    if (c.optim_args) broken_rule(fmt::format("optim_args is given, and {} has keys of its own", name), "leave optim_args out");
  }
  if (c.use_badam) check_badam(c);
  if (c.use_galore || c.use_apollo || on.empty()) check_low_rank(c);
}

}  // namespace loraine
