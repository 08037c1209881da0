// GaLore and APOLLO by LLaMA-Factory's keys and by transformers' names. Facts: LLaMA-Factory 0.9.5 (train/trainer_utils.py),
// transformers 5.6 (trainer_optimizer.py), galore-torch 1.0, apollo-torch 1.0, restated.
#include <fmt/format.h>

#include <algorithm>

#include "loraine/adapters/attach.h"
#include "loraine/core/error.h"
#include "loraine/train/optimizers/model_order.h"
#include "loraine/train/optimizers/optim_args.h"
#include "loraine/train/optimizers/rules/adafactor.h"
#include "loraine/train/optimizers/rules/adamw.h"
#include "loraine/train/optimizers/rules/apollo.h"
#include "loraine/train/optimizers/rules/galore.h"
#include "loraine/train/optimizers/switches.h"

namespace loraine {
namespace {

const std::vector<std::string> kSides = {"std", "reverse_std", "right", "left", "full"}, kApolloSides = {"std", "right", "left"};

// Of both programs what they say.
struct LowRankPlan {
  bool apollo = false, layerwise = false;
  GaLoreOptions galore;
  ApolloOptions scaled;
  Adam outside;  // of parameters that are no target
  double decay = 0;
  bool biases_decay = true;  // transformers gives all parameters the same decay
};

LowRankPlan by_keys(const TrainConfig& c) {
  using Inner = GaLoreOptions::Inner;
  LowRankPlan plan{.apollo = c.use_apollo, .layerwise = c.use_apollo ? c.apollo_layerwise : c.galore_layerwise};
  plan.outside = {c.adam_beta1, c.adam_beta2, c.adam_epsilon};
  plan.decay = c.weight_decay;
  plan.biases_decay = false;
  const std::string form = optimizer_form(c.optim);
  plan.galore = {form == "adafactor"    ? Inner::adafactor
                 : form == "adamw_8bit" ? Inner::adamw_8bit
                                        : Inner::adamw,
                 plan.outside,
                 {c.galore_rank, c.galore_update_interval, c.galore_proj_type},
                 c.galore_scale};
  plan.scaled = {plan.outside,
                 {c.apollo_rank, c.apollo_update_interval, c.apollo_proj_type},
                 c.apollo_scale,
                 c.apollo_proj == "svd",
                 c.apollo_scale_type == "channel",
                 c.apollo_scale_front};
  return plan;
}

LowRankPlan by_name(const TrainConfig& c) {
  using Inner = GaLoreOptions::Inner;
  const Limits count = {.lowest = 1, .highest = 1e9}, scale = {.lowest = 0, .highest = 1e9};
  OptimArgs args(c.optim, c.optim_args);
  LowRankPlan plan{.apollo = c.optim.starts_with("apollo"), .layerwise = c.optim.ends_with("layerwise")};
  LowRankOptions space{args.whole("rank", 128, count), args.whole("update_proj_gap", 200, count),
                       args.word("proj_type", "std", plan.apollo ? kApolloSides : kSides)};
  const bool eight = c.optim.find("8bit") != std::string::npos;
  plan.outside.epsilon = eight ? 1e-8 : 1e-6;  // the libraries' defaults, which transformers leaves
  if (plan.apollo) {
    plan.scaled = {{c.adam_beta1, c.adam_beta2, c.adam_epsilon}, space, args.number("scale", 1, scale)};
    plan.scaled.singular = args.word("proj", "random", {"random", "svd"}) == "svd";
    plan.scaled.by_channel = args.word("scale_type", "channel", {"channel", "tensor"}) == "channel";
  } else {
    const bool factored = c.optim.find("adafactor") != std::string::npos;
    plan.galore = {factored ? Inner::adafactor
                   : eight  ? Inner::adamw_8bit
                            : Inner::adamw,
                   plan.outside, space, args.number("scale", 0.25, scale)};
    if (eight) plan.decay = 0.01;
  }
  args.finish();
  return plan;
}

LowRankPlan plan_of(const TrainConfig& c) { return c.use_galore || c.use_apollo ? by_keys(c) : by_name(c); }

// The path of the linear layer whose weight this is; empty for anything else.
std::string linear_layer(const Parameter& p) {
  constexpr std::string_view kEnd = ".weight";
  if (p.value.rank != 2 || !p.name.ends_with(kEnd) || p.name.find("embed_tokens") != std::string::npos) return "";
  std::string path = p.name.substr(0, p.name.size() - kEnd.size());
  if (path.ends_with(".lora_A") || path.ends_with(".lora_B")) path += ".default";  // PEFT's name in memory
  return path;
}

bool is_target(const TrainConfig& c, const std::string& path) {
  if (path.empty()) return false;
  const auto within = [&](const std::string& word) { return path.find(word) != std::string::npos; };
  if (c.use_galore || c.use_apollo) {
    const std::vector<std::string> words = split_list(c.use_galore ? c.galore_target : c.apollo_target);
    if (words == std::vector<std::string>{"all"}) return !within("lm_head");
    return std::ranges::any_of(words, within);
  }
  const std::vector<std::string> words = split_list(c.optim_target_modules);
  if (words.size() == 1 && (words[0] == "all-linear" || words[0] == "all_linear")) return true;
  return std::ranges::any_of(words, [&](const std::string& word) { return within(word) || matches_whole(word, path); });
}

void check_channels(const LowRankPlan& plan, const Parameter& p) {
  const GradientSpace space(plan.scaled.space, p.value, plan.scaled.singular);
  const bool wide = p.value.rows() < p.value.cols();
  if (!plan.scaled.by_channel || space.cuts_rows() == wide) return;
  throw Error(ErrorKind::usage,
              fmt::format("APOLLO: the projection '{}' of {} {} leaves the channels that are scaled in no order", plan.scaled.space.side,
                          p.name, p.value.shape_text()),
              "use the projection std, or scale by tensor");
}

// The place in the optimizer's groups, which is the seed of a random projection: what is no target first (LLaMA-Factory: what does not
// decay before that), from 1.
std::vector<uint64_t> seeds_of(const LowRankPlan& plan, std::span<const Parameter> parameters, const std::vector<bool>& targets) {
  std::vector<uint64_t> seeds(parameters.size(), 1);
  if (plan.layerwise) return seeds;  // each has an optimizer of its own
  const std::vector<size_t> order = model_order(parameters);
  uint64_t next = 1;
  const auto group = [&](size_t i) {
    if (targets[i]) return 2;
    return plan.biases_decay || parameters[i].name.find("bias") == std::string::npos ? 1 : 0;
  };
  for (int now = 0; now < 3; ++now)
    for (const size_t i : order)
      if (group(i) == now) seeds[i] = next++;
  return seeds;
}

}  // namespace

Recipe low_rank_recipe(const TrainConfig& c, std::span<const Parameter> parameters) {
  const LowRankPlan plan = plan_of(c);
  std::vector<bool> targets;
  for (const Parameter& p : parameters) targets.push_back(is_target(c, linear_layer(p)));
  if (!parameters.empty() && std::ranges::find(targets, true) == targets.end())
    throw Error(ErrorKind::usage,
                fmt::format("{} names no linear layer that is trained", c.use_galore   ? "galore_target"
                                                                        : c.use_apollo ? "apollo_target"
                                                                                       : "optim_target_modules"),
                "name layers like q_proj, comma separated, or all of them: all (optim_target_modules: all-linear)");
  Recipe recipe;
  recipe.clips = !plan.layerwise;
  const bool eight = plan.galore.inner == GaLoreOptions::Inner::adamw_8bit, factored = plan.galore.inner == GaLoreOptions::Inner::adafactor;
  const auto add = [&](auto rule) {
    recipe.rules.push_back(std::move(rule));
    return recipe.rules.back().get();
  };
  const Rule* galore = plan.apollo ? nullptr : add(std::make_unique<GaLoreRule>(plan.galore));
  const Rule* outside = nullptr;
  if (!plan.apollo && factored) outside = add(std::make_unique<AdafactorRule>(Adafactor{}));
  else if (!plan.apollo && eight)
    outside = add(std::make_unique<AdamWRule>(plan.outside.beta1, plan.outside.beta2, plan.outside.epsilon, true));
  else outside = add(std::make_unique<PlainAdamWRule>(plan.outside));
  const std::vector<uint64_t> seeds = seeds_of(plan, parameters, targets);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const bool decays = plan.biases_decay || targets[i] || parameters[i].name.find("bias") == std::string::npos;
    const Rule* rule = outside;
    if (targets[i] && plan.apollo) {
      check_channels(plan, parameters[i]);
      rule = add(std::make_unique<ApolloRule>(plan.scaled, seeds[i]));
    } else if (targets[i]) {
      rule = galore;
    }
    recipe.parts.push_back({rule, 1, decays ? plan.decay : 0});
  }
  return recipe;
}

void check_low_rank(const TrainConfig& c) {
  const LowRankPlan plan = plan_of(c);
  const std::string name = c.use_galore ? "galore_layerwise" : c.use_apollo ? "apollo_layerwise" : "optim: " + c.optim;
  if (plan.layerwise && c.gradient_accumulation_steps != 1)
    throw Error(ErrorKind::usage,
                fmt::format("{} updates in the backward of each micro-batch, and gradient_accumulation_steps is {}", name,
                            c.gradient_accumulation_steps),
                "set gradient_accumulation_steps: 1 and a larger per_device_train_batch_size");
  if (!c.use_galore && !c.use_apollo && split_list(c.optim_target_modules).empty())
    throw Error(ErrorKind::usage, fmt::format("optim: {} needs the layers whose gradients it projects", c.optim),
                "set optim_target_modules to names like q_proj,v_proj, or to all-linear");
  if (!c.use_galore && !c.use_apollo && c.given.contains("weight_decay") && c.weight_decay != plan.decay)
    throw Error(ErrorKind::usage,
                fmt::format("weight_decay is {}, and transformers' {} has always {}", c.weight_decay, c.optim, plan.decay),
                fmt::format("set weight_decay: {}, or use LLaMA-Factory's use_galore or use_apollo", plan.decay));
}

}  // namespace loraine
