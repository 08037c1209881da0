// Learning rate schedules; formulas as in transformers' optimization.py and torch's ReduceLROnPlateau.
#include "loraine/train/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "loraine/core/error.h"

namespace loraine {
namespace {

using Json = nlohmann::json;
constexpr double kPi = std::numbers::pi;

[[noreturn]] void refuse(const std::string& message, const std::string& hint) { throw Error(ErrorKind::usage, message, hint); }

// Which keys of lr_scheduler_kwargs each schedule takes.
struct Kind {
  const char* name;
  std::vector<std::string> keys;
};
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"linear", {}},
      {"cosine", {"num_cycles"}},
      {"cosine_with_restarts", {"num_cycles"}},
      {"polynomial", {"power", "lr_end"}},
      {"constant", {}},
      {"constant_with_warmup", {}},
      {"inverse_sqrt", {"timescale"}},
      {"reduce_lr_on_plateau", {"mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps"}},
      {"cosine_with_min_lr", {"num_cycles", "min_lr", "min_lr_rate"}},
      {"cosine_warmup_with_min_lr", {"num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"}},
      {"warmup_stable_decay", {"num_stable_steps", "num_decay_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles"}},
  };
  return all;
}

double number(const Json& kwargs, const char* key, double fallback, double low, double high) {
  if (!kwargs.contains(key) || kwargs[key].is_null()) return fallback;
  const Json& value = kwargs[key];
  const double x = value.is_number() ? value.get<double>() : std::nan("");
  if (!(x >= low && x <= high))
    refuse(fmt::format("lr_scheduler_kwargs: {} is {}, expected a number from {} to {}", key, value.dump(), low, high),
           fmt::format("leave {} out for its default, {}", key, fallback));
  return x;
}

int64_t count(const Json& kwargs, const char* key, int64_t fallback) {
  const double x = number(kwargs, key, static_cast<double>(fallback), 0, 1e15);
  if (x != std::floor(x)) refuse(fmt::format("lr_scheduler_kwargs: {} is {}, expected a whole number", key, x), "");
  return static_cast<int64_t>(x);
}

std::string word(const Json& kwargs, const char* key, const std::string& fallback, const std::vector<std::string>& allowed) {
  if (!kwargs.contains(key) || kwargs[key].is_null()) return fallback;
  const std::string text = kwargs[key].is_string() ? kwargs[key].get<std::string>() : kwargs[key].dump();
  if (std::find(allowed.begin(), allowed.end(), text) == allowed.end())
    refuse(fmt::format("lr_scheduler_kwargs: {} is {}, expected one of {}", key, text, fmt::join(allowed, ", ")), "");
  return text;
}

// 0.5 (1 + cos(2 π cycles progress))
double cosine(double progress, double cycles) { return 0.5 * (1.0 + std::cos(kPi * cycles * 2.0 * progress)); }

// Share of the way, by shape: linear, cosine or 1-sqrt, scaled into [floor, 1].
double shaped(double factor, double floor) { return std::max(0.0, factor * (1.0 - floor) + floor); }

}  // namespace

const std::vector<std::string>& scheduler_types() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Kind& kind : kinds()) out.emplace_back(kind.name);
    return out;
  }();
  return names;
}

int64_t warmup_step_count(double warmup_steps, std::optional<double> warmup_ratio, int64_t total_steps) {
  const double value = warmup_ratio.value_or(warmup_steps);
  if (!(value >= 0 && value < 1e15))
    refuse(fmt::format("{} is {}, expected a share below 1 or a number of steps", warmup_ratio ? "warmup_ratio" : "warmup_steps", value),
           "give 0 for no warm-up");
  if (value >= 1) return static_cast<int64_t>(value);
  return static_cast<int64_t>(std::ceil(static_cast<double>(total_steps) * value));
}

Json scheduler_kwargs_with_defaults(std::string_view type, Json kwargs, int64_t total_steps, int64_t warmup_steps) {
  if (kwargs.is_null()) kwargs = Json::object();
  if (type != "warmup_stable_decay" || !kwargs.is_object()) return kwargs;
  const int64_t remaining = std::max<int64_t>(0, total_steps - warmup_steps), stable = remaining / 3;
  if (!kwargs.contains("num_stable_steps")) kwargs["num_stable_steps"] = stable;
  if (!kwargs.contains("num_decay_steps")) kwargs["num_decay_steps"] = remaining - stable;
  return kwargs;
}

Schedule::Schedule(std::string type, double base_lr, int64_t total_steps, int64_t warmup_steps, const Json& given)
    : type_(std::move(type)), base_lr_(base_lr), total_(total_steps), warmup_(warmup_steps) {
  const auto kind = std::find_if(kinds().begin(), kinds().end(), [&](const Kind& k) { return type_ == k.name; });
  if (kind == kinds().end())
    refuse(fmt::format("lr_scheduler_type: found {}, expected one of {}", type_, fmt::join(scheduler_types(), ", ")),
           "the usual choice is cosine");
  if (!given.is_null() && !given.is_object())
    refuse(fmt::format("lr_scheduler_kwargs: found {}, expected an object", given.dump()), "for example {\"num_cycles\": 2}");
  const Json kwargs = given.is_null() ? Json::object() : given;
  for (auto it = kwargs.begin(); it != kwargs.end(); ++it)
    if (std::find(kind->keys.begin(), kind->keys.end(), it.key()) == kind->keys.end())
      refuse(fmt::format("lr_scheduler_kwargs: {} is no setting of {}, which takes {}", it.key(), type_,
                         kind->keys.empty() ? std::string("none") : fmt::format("{}", fmt::join(kind->keys, ", "))),
             "remove it or choose another lr_scheduler_type");
  if (!(base_lr >= 0 && std::isfinite(base_lr))) refuse(fmt::format("learning_rate: found {}, expected 0 or more", base_lr), "");
  total_ = std::max<int64_t>(0, total_);
  warmup_ = std::max<int64_t>(0, warmup_);

  num_cycles_ = number(kwargs, "num_cycles", type_ == "cosine_with_restarts" ? 1.0 : 0.5, 0, 1e9);
  power_ = number(kwargs, "power", 1.0, 0, 1e3);
  lr_end_ = number(kwargs, "lr_end", 1e-7, 0, 1e9);
  if (type_ == "polynomial" && base_lr_ <= lr_end_)
    refuse(fmt::format("lr_scheduler_kwargs: lr_end is {}, expected less than the learning rate {}", lr_end_, base_lr_), "lower lr_end");
  timescale_ = number(kwargs, "timescale", warmup_ > 0 ? static_cast<double>(warmup_) : 10000.0, 1e-9, 1e15);
  if (type_ == "cosine_with_min_lr" || type_ == "cosine_warmup_with_min_lr") {
    const bool rate = kwargs.contains("min_lr_rate") && !kwargs["min_lr_rate"].is_null();
    const bool lr = kwargs.contains("min_lr") && !kwargs["min_lr"].is_null();
    if (rate == lr)
      refuse(fmt::format("lr_scheduler_kwargs of {}: {} of min_lr and min_lr_rate given, expected one", type_, rate ? "both" : "none"),
             "for example {\"min_lr_rate\": 0.1}");
    min_rate_ = rate ? number(kwargs, "min_lr_rate", 0, 0, 1) : number(kwargs, "min_lr", 0, 0, 1e9) / std::max(base_lr_, 1e-300);
    if (kwargs.contains("warmup_lr_rate") && !kwargs["warmup_lr_rate"].is_null())
      warmup_lr_rate_ = number(kwargs, "warmup_lr_rate", 0, 0, 1);
  }
  if (type_ == "warmup_stable_decay") {
    if (!kwargs.contains("num_decay_steps"))
      refuse("lr_scheduler_kwargs of warmup_stable_decay: num_decay_steps is missing",
             "give it, or start from scheduler_kwargs_with_defaults");
    decay_ = count(kwargs, "num_decay_steps", 0);
    stable_ = count(kwargs, "num_stable_steps", std::max<int64_t>(0, total_ - warmup_ - decay_));
    const std::vector<std::string> shapes = {"linear", "cosine", "1-sqrt"};
    warmup_shape_ = word(kwargs, "warmup_type", "linear", shapes);
    decay_shape_ = word(kwargs, "decay_type", "cosine", shapes);
    min_rate_ = number(kwargs, "min_lr_ratio", 0, 0, 1);
  }
  if (type_ == "reduce_lr_on_plateau") {
    plateau_.mode = word(kwargs, "mode", "min", {"min", "max"});
    plateau_.threshold_mode = word(kwargs, "threshold_mode", "rel", {"rel", "abs"});
    plateau_.factor = number(kwargs, "factor", 0.1, 0, 1);
    plateau_.threshold = number(kwargs, "threshold", 1e-4, 0, 1e9);
    plateau_.min_lr = number(kwargs, "min_lr", 0, 0, 1e9);
    plateau_.eps = number(kwargs, "eps", 1e-8, 0, 1e9);
    plateau_.patience = count(kwargs, "patience", 10);
    plateau_.cooldown = count(kwargs, "cooldown", 0);
  }
}

double Schedule::warmup_stable_decay(int64_t step) const {
  if (step < warmup_) {
    const double progress = static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, warmup_));
    if (warmup_shape_ == "linear") return shaped(progress, min_rate_);
    if (warmup_shape_ == "cosine") return shaped(0.5 * (1.0 - std::cos(kPi * progress)), min_rate_);
    return shaped(1.0 - std::sqrt(1.0 - progress), min_rate_);
  }
  if (step < warmup_ + stable_) return 1.0;
  if (step < warmup_ + stable_ + decay_) {
    const double progress = static_cast<double>(step - warmup_ - stable_) / static_cast<double>(std::max<int64_t>(1, decay_));
    if (decay_shape_ == "linear") return shaped(1.0 - progress, min_rate_);
    if (decay_shape_ == "cosine") return shaped(cosine(progress, num_cycles_), min_rate_);
    return shaped(1.0 - std::sqrt(progress), min_rate_);
  }
  return min_rate_;
}

double Schedule::factor(int64_t index) const {
  const double step = static_cast<double>(std::max<int64_t>(0, index));
  const double warmup = static_cast<double>(warmup_), total = static_cast<double>(total_);
  if (type_ == "constant") return 1.0;
  if (type_ == "reduce_lr_on_plateau") return plateau_.scale;
  if (type_ == "warmup_stable_decay") return warmup_stable_decay(std::max<int64_t>(0, index));
  if (type_ == "cosine_warmup_with_min_lr") {
    if (step < warmup) {
      if (!warmup_lr_rate_) return (step + 1.0) / std::max(1.0, warmup);
      return *warmup_lr_rate_ + (1.0 - *warmup_lr_rate_) * step / std::max(1.0, warmup - 1.0);
    }
    return shaped(cosine((step - warmup + 1.0) / std::max(1.0, total - warmup), num_cycles_), min_rate_);
  }
  if (step < warmup) return step / std::max(1.0, warmup);
  if (type_ == "constant_with_warmup") return 1.0;
  if (type_ == "inverse_sqrt") return 1.0 / std::sqrt((step + (timescale_ - warmup)) / timescale_);
  if (type_ == "polynomial") {
    if (step > total) return lr_end_ / base_lr_;
    const double remaining = 1.0 - (step - warmup) / std::max(1.0, total - warmup);
    return ((base_lr_ - lr_end_) * std::pow(remaining, power_) + lr_end_) / base_lr_;
  }
  if (type_ == "linear") return std::max(0.0, (total - step) / std::max(1.0, total - warmup));
  const double progress = (step - warmup) / std::max(1.0, total - warmup);
  if (type_ == "cosine") return std::max(0.0, cosine(progress, num_cycles_));
  if (type_ == "cosine_with_min_lr") return shaped(cosine(progress, num_cycles_), min_rate_);
  // cosine_with_restarts
  if (progress >= 1.0) return 0.0;
  return std::max(0.0, 0.5 * (1.0 + std::cos(kPi * std::fmod(num_cycles_ * progress, 1.0))));
}

void Schedule::observe(double metric) {
  if (type_ != "reduce_lr_on_plateau") return;
  Plateau& p = plateau_;
  const auto better = [&] {
    if (!p.best) return !std::isnan(metric);
    const double margin = p.threshold_mode == "rel" ? p.threshold * *p.best : p.threshold;
    return p.mode == "min" ? metric < *p.best - margin : metric > *p.best + margin;
  };
  if (better()) {
    p.best = metric;
    p.bad_evaluations = 0;
  } else {
    ++p.bad_evaluations;
  }
  if (p.cooldown_left > 0) {
    --p.cooldown_left;
    p.bad_evaluations = 0;
  }
  if (p.bad_evaluations <= p.patience) return;
  p.cooldown_left = p.cooldown;
  p.bad_evaluations = 0;
  const double old_rate = base_lr_ * p.scale, new_rate = std::max(old_rate * p.factor, p.min_lr);
  if (old_rate - new_rate > p.eps && base_lr_ > 0) p.scale = new_rate / base_lr_;
}

Json Schedule::state() const {
  Json out = {{"type", type_}};
  if (type_ != "reduce_lr_on_plateau") return out;
  out["best"] = plateau_.best ? Json(*plateau_.best) : Json();
  out["bad_evaluations"] = plateau_.bad_evaluations;
  out["cooldown_left"] = plateau_.cooldown_left;
  out["scale"] = plateau_.scale;
  return out;
}

void Schedule::load_state(const Json& state) {
  if (type_ != "reduce_lr_on_plateau") return;  // the others depend on the step alone
  try {
    plateau_.best = state.at("best").is_null() ? std::nullopt : std::optional<double>(state.at("best").get<double>());
    plateau_.bad_evaluations = state.at("bad_evaluations").get<int64_t>();
    plateau_.cooldown_left = state.at("cooldown_left").get<int64_t>();
    plateau_.scale = state.at("scale").get<double>();
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorKind::bad_data, fmt::format("saved state of reduce_lr_on_plateau: {}", e.what()), "resume from another checkpoint");
  }
}

}  // namespace loraine
