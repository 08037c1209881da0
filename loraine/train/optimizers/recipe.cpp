// The names of `optim`, and their rules. Facts: transformers 5.6 (trainer_optimizer.py), restated.
#include "loraine/train/optimizers/recipe.h"

#include <fmt/format.h>

#include <cmath>

#include "loraine/core/error.h"
#include "loraine/train/optimizers/lorafa.h"
#include "loraine/train/optimizers/loraplus.h"
#include "loraine/train/optimizers/model_order.h"
#include "loraine/train/optimizers/optim_args.h"
#include "loraine/train/optimizers/rules/adafactor.h"
#include "loraine/train/optimizers/rules/adagrad.h"
#include "loraine/train/optimizers/rules/adamw.h"
#include "loraine/train/optimizers/rules/ademamix.h"
#include "loraine/train/optimizers/rules/grokadamw.h"
#include "loraine/train/optimizers/rules/lion.h"
#include "loraine/train/optimizers/rules/rmsprop.h"
#include "loraine/train/optimizers/rules/schedule_free.h"
#include "loraine/train/optimizers/rules/sgd.h"
#include "loraine/train/optimizers/rules/stable_adamw.h"
#include "loraine/train/optimizers/switches.h"

namespace loraine {
namespace {

struct Name {
  const char* name;
  const char* form;  // names with one form are one rule; null: known, not built
};
// transformers' OptimizerNames. Paged states and fused or device's own kernels are the same rule.
constexpr Name kNames[] = {{"adamw_torch", "adamw_torch"},
                           {"adamw_torch_fused", "adamw_torch"},
                           {"adamw_torch_xla", "adamw_torch"},
                           {"adamw_torch_npu_fused", "adamw_torch"},
                           {"adamw_apex_fused", "adamw_torch"},
                           {"adafactor", "adafactor"},
                           {"adamw_anyprecision", "adamw_torch"},
                           {"adamw_torch_4bit", nullptr},
                           {"adamw_torch_8bit", nullptr},
                           {"ademamix", "ademamix"},
                           {"sgd", "sgd"},
                           {"adagrad", "adagrad"},
                           {"adamw_bnb_8bit", "adamw_8bit"},
                           {"adamw_8bit", "adamw_8bit"},
                           {"ademamix_8bit", "ademamix_8bit"},
                           {"lion_8bit", "lion_8bit"},
                           {"lion_32bit", "lion_32bit"},
                           {"paged_adamw_32bit", "adamw_torch"},
                           {"paged_adamw_8bit", "adamw_8bit"},
                           {"paged_ademamix_32bit", "ademamix"},
                           {"paged_ademamix_8bit", "ademamix_8bit"},
                           {"paged_lion_32bit", "lion_32bit"},
                           {"paged_lion_8bit", "lion_8bit"},
                           {"rmsprop", "rmsprop"},
                           {"rmsprop_bnb", "rmsprop_bnb_32bit"},
                           {"rmsprop_bnb_8bit", "rmsprop_bnb_8bit"},
                           {"rmsprop_bnb_32bit", "rmsprop_bnb_32bit"},
                           {"galore_adamw", "galore_adamw"},
                           {"galore_adamw_8bit", "galore_adamw_8bit"},
                           {"galore_adafactor", "galore_adafactor"},
                           {"galore_adamw_layerwise", "galore_adamw_layerwise"},
                           {"galore_adamw_8bit_layerwise", "galore_adamw_8bit_layerwise"},
                           {"galore_adafactor_layerwise", "galore_adafactor_layerwise"},
                           {"lomo", "lomo"},
                           {"adalomo", "adalomo"},
                           {"grokadamw", "grokadamw"},
                           {"schedule_free_radam", "schedule_free_radam"},
                           {"schedule_free_adamw", "schedule_free_adamw"},
                           {"schedule_free_sgd", "schedule_free_sgd"},
                           {"apollo_adamw", "apollo_adamw"},
                           {"apollo_adamw_layerwise", "apollo_adamw_layerwise"},
                           {"stable_adamw", "stable_adamw"}};

const Limits kShare = {.lowest = 0, .highest = 1, .below_highest = true};
const Limits kNotNegative = {.lowest = 0, .highest = 1e9};
const Limits kAboveNothing = {.lowest = 0, .highest = 1e9, .above_lowest = true};
const Limits kCount = {.lowest = 1, .highest = 1e9};

// transformers sets the weight decay of each group of parameters, so that a rule's own never counts.
void refuse_decay(OptimArgs& args, const TrainConfig& c) {
  args.only("weight_decay", fmt::format("{}", c.weight_decay), "set the key weight_decay; in optim_args it would have no effect");
}

using RulePointer = std::unique_ptr<const Rule>;

RulePointer make_rmsprop(const TrainConfig& c, const std::string& form, OptimArgs& args) {
  RmsProp o;
  o.alpha = args.number("alpha", o.alpha, kShare);
  o.epsilon = args.number("eps", o.epsilon, kAboveNothing);
  if (form == "rmsprop") {
    o.momentum = args.number("momentum", 0, kShare);
    o.centered = args.yes("centered", false);
    refuse_decay(args, c);
  }
  return std::make_unique<RmsPropRule>(o, form == "rmsprop_bnb_8bit");
}

RulePointer make_ademamix(const TrainConfig& c, bool eight_bits, OptimArgs& args) {
  AdEmaMix o;
  o.beta1 = args.number("beta1", c.adam_beta1, kShare);
  o.beta2 = args.number("beta2", c.adam_beta2, kShare);
  o.beta3 = args.number("beta3", o.beta3, kShare);
  o.alpha = args.number("alpha", o.alpha, kNotNegative);
  o.epsilon = args.number("eps", c.adam_epsilon, kNotNegative);
  const int64_t alpha_steps = args.has("t_alpha") ? args.whole("t_alpha", 0, kCount) : args.whole("t_alpha", 0, {});
  const int64_t beta3_steps = args.has("t_beta3") ? args.whole("t_beta3", 0, kCount) : args.whole("t_beta3", 0, {});
  if (beta3_steps > 0 && (o.beta1 == 0 || o.beta3 == 0))
    throw Error(ErrorKind::usage, "optim_args: t_beta3 needs beta1 and beta3 above 0", "leave t_beta3 out");
  return std::make_unique<AdEmaMixRule>(o, alpha_steps, beta3_steps, eight_bits);
}

RulePointer make_schedule_free(const TrainConfig& c, const std::string& form, int64_t warmup_steps, OptimArgs& args) {
  using Kind = ScheduleFreeOptions::Kind;
  ScheduleFreeOptions o{.beta1 = c.adam_beta1, .beta2 = c.adam_beta2, .epsilon = c.adam_epsilon, .warmup_steps = warmup_steps};
  o.kind = form == "schedule_free_sgd" ? Kind::sgd : form == "schedule_free_radam" ? Kind::radam : Kind::adamw;
  if (o.kind == Kind::sgd) o.beta1 = 0.9;
  if (o.kind == Kind::radam) o.warmup_steps = 0;
  if (o.beta1 == 0)
    throw Error(ErrorKind::usage, fmt::format("adam_beta1 is 0, and optim: {} divides by it", c.optim), "set adam_beta1 above 0");
  o.weight_power = args.number("weight_lr_power", o.weight_power, kNotNegative);
  o.r = args.number("r", o.r, kNotNegative);
  return std::make_unique<ScheduleFreeRule>(o);
}

RulePointer make_stable_adamw(const TrainConfig& c, OptimArgs& args) {
  StableAdam o{.beta1 = c.adam_beta1, .beta2 = c.adam_beta2, .epsilon = c.adam_epsilon};
  const bool decoupled = args.yes("decouple_lr", false);
  const double peak = args.number("max_lr", c.learning_rate, kAboveNothing);
  args.yes("kahan_sum", false);  // of values of 16 bits, which are not trained here
  if (decoupled) o.peak_rate = peak;
  return std::make_unique<StableAdamWRule>(o);
}

// The rule of a name that has one rule for all parameters; null for the others.
RulePointer plain_rule(const TrainConfig& c, const std::string& form, int64_t warmup_steps, OptimArgs& args) {
  if (form == "adamw_torch" || form == "adamw_8bit") {
    if (c.optim == "adamw_anyprecision") {
      args.only("use_kahan_summation", "false", "leave it out: parameters are trained in float32");
      for (const char* key : {"momentum_dtype", "variance_dtype"}) args.only(key, "float32", "for smaller states set optim: adamw_8bit");
      args.only("compensation_buffer_dtype", "bfloat16", "leave it out: without use_kahan_summation nothing is compensated");
    }
    return std::make_unique<AdamWRule>(c.adam_beta1, c.adam_beta2, c.adam_epsilon, form == "adamw_8bit");
  }
  if (form == "sgd") {
    Sgd o;
    o.momentum = args.number("momentum", 0, kShare);
    o.dampening = args.number("dampening", 0, kShare);
    o.nesterov = args.yes("nesterov", false);
    refuse_decay(args, c);
    if (o.nesterov && (o.momentum <= 0 || o.dampening != 0))
      throw Error(ErrorKind::usage, "optim_args: nesterov needs a momentum and no dampening", "set momentum=0.9, or leave nesterov out");
    return std::make_unique<SgdRule>(o);
  }
  if (form == "adagrad") {
    Adagrad o;
    o.rate_decay = args.number("lr_decay", o.rate_decay, kNotNegative);
    o.epsilon = args.number("eps", o.epsilon, kAboveNothing);
    refuse_decay(args, c);
    return std::make_unique<AdagradRule>(o);
  }
  if (form.starts_with("rmsprop")) return make_rmsprop(c, form, args);
  if (form.starts_with("lion")) return std::make_unique<LionRule>(Lion{c.adam_beta1, c.adam_beta2}, form == "lion_8bit");
  if (form.starts_with("ademamix")) return make_ademamix(c, form == "ademamix_8bit", args);
  if (form.starts_with("schedule_free")) return make_schedule_free(c, form, warmup_steps, args);
  if (form == "stable_adamw") return make_stable_adamw(c, args);
  if (form == "adafactor") return std::make_unique<AdafactorRule>(Adafactor{});
  if (form == "lomo") return std::make_unique<SgdRule>(Sgd{});
  if (form == "adalomo") return std::make_unique<AdafactorRule>(Adafactor{.scale_by_value = true});
  return nullptr;
}

// One rule per parameter: the first moment of the i-th of those that decay, and of the others, is shorter by (1 − gamma)^i.
Recipe grokadamw(const TrainConfig& c, std::span<const Parameter> parameters, OptimArgs& args) {
  GrokAdam o;  // transformers gives it no betas
  o.alpha = args.number("alpha_init", o.alpha, {.lowest = 0, .highest = 1});
  o.lambda = args.number("lamb", o.lambda, kNotNegative);
  const double gamma = args.number("gamma", 0.1, {.lowest = 0, .highest = 1});
  args.number("grokking_signal_decay_rate", 0.1, kNotNegative);  // of a signal that a run does not give
  const double clip = args.number("gradient_clipping", 1, kNotNegative);
  Recipe recipe;
  recipe.parts.resize(parameters.size());
  int64_t place[2] = {0, 0};
  for (const size_t i : model_order(parameters)) {
    const bool decayed = decays(parameters[i].name);
    GrokAdam own = o;
    own.own_beta1 = o.beta1 * std::pow(1 - gamma, static_cast<double>(place[decayed]++));
    recipe.rules.push_back(std::make_unique<GrokAdamWRule>(own, clip));
    recipe.parts[i] = {recipe.rules.back().get(), 1, decayed ? c.weight_decay : 0};
  }
  return recipe;
}

Recipe by_name(const TrainConfig& c, std::span<const Parameter> parameters, int64_t warmup_steps) {
  const std::string form = optimizer_form(c.optim);
  OptimArgs args(c.optim, c.optim_args);
  Recipe recipe;
  if (form == "grokadamw") {
    recipe = grokadamw(c, parameters, args);
  } else {
    const bool plain = form == "lomo" || form == "adalomo";  // transformers gives these no weight decay, and clips nothing
    recipe = one_rule(plain_rule(c, form, warmup_steps, args), parameters, plain ? 0 : c.weight_decay);
    recipe.clips = !plain;
  }
  args.finish();
  return recipe;
}

}  // namespace

bool decays(const std::string& name) {
  for (size_t first = 0; first <= name.size();) {
    const size_t end = std::min(name.find('.', first), name.size());
    const std::string part = name.substr(first, end - first);
    for (const char* word : {"bias", "layernorm", "rmsnorm"})
      if (part.find(word) != std::string::npos) return false;
    if (part == "norm" || part.ends_with("_norm")) return false;
    first = end + 1;
  }
  return true;
}

Recipe one_rule(RulePointer rule, std::span<const Parameter> parameters, double weight_decay) {
  Recipe recipe;
  for (const Parameter& p : parameters) recipe.parts.push_back({rule.get(), 1, decays(p.name) ? weight_decay : 0});
  recipe.rules.push_back(std::move(rule));
  return recipe;
}

const std::vector<std::string>& optimizer_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Name& one : kNames) all.emplace_back(one.name);
    return all;
  }();
  return names;
}

const std::vector<std::string>& built_optimizer_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> built;
    for (const Name& one : kNames)
      if (one.form) built.emplace_back(one.name);
    return built;
  }();
  return names;
}

std::string optimizer_form(const std::string& name) {
  for (const Name& one : kNames)
    if (name == one.name && one.form) return one.form;
  return name;
}

Recipe recipe_of(const TrainConfig& c, const ModelConfig& model, std::span<const Parameter> parameters, int64_t warmup_steps) {
  if (is_switched(c)) return switched_recipe(c, model, parameters);
  Recipe recipe = by_name(c, parameters, warmup_steps);
  if (c.loraplus_lr_ratio) {
    const std::vector<double> factors = loraplus_factors(parameters, {*c.loraplus_lr_ratio, c.loraplus_lr_embedding, c.learning_rate});
    for (size_t i = 0; i < parameters.size(); ++i) recipe.parts[i].rate_factor = factors[i];
  }
  return recipe;
}

void check_optimizer(const TrainConfig& c) {
  check_switches(c);
  check_lorafa(c);
  if (is_switched(c)) return;
  by_name(c, {}, 0);  // reads optim_args
  const std::string form = optimizer_form(c.optim);
  if (form.starts_with("schedule_free") && c.use_adalora)
    throw Error(ErrorKind::usage,
                fmt::format("use_adalora and optim: {} exclude each other: averages would bring back the ranks that were cut", c.optim),
                "choose another optimizer");
  if (form.ends_with("lomo") && c.gradient_accumulation_steps != 1)
    throw Error(ErrorKind::usage,
                fmt::format("optim: {} updates in the backward of each micro-batch, and gradient_accumulation_steps is {}", c.optim,
                            c.gradient_accumulation_steps),
                "set gradient_accumulation_steps: 1 and a larger per_device_train_batch_size");
  if (form.ends_with("lomo") && c.loraplus_lr_ratio)
    throw Error(ErrorKind::usage, fmt::format("loraplus_lr_ratio does not go with optim: {}, which has one rate for all", c.optim),
                "leave loraplus_lr_ratio out");
}

}  // namespace loraine
