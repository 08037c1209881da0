// Learning rate schedules with Hugging Face's names and rules (transformers 5.6 optimization.py). Called by the step loop.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace loraine {

// Steps of warm-up: a ratio, when given, takes the place of warmup_steps; a value below 1 is a share of total_steps (rounded up), from 1 on
// a count.
int64_t warmup_step_count(double warmup_steps, std::optional<double> warmup_ratio, int64_t total_steps);

// LLaMA-Factory's defaults put into lr_scheduler_kwargs: warmup_stable_decay holds for a third of the steps after warm-up and decays in the
// rest.
nlohmann::json scheduler_kwargs_with_defaults(std::string_view type, nlohmann::json kwargs, int64_t total_steps, int64_t warmup_steps);

// All names that Schedule knows.
const std::vector<std::string>& scheduler_types();

class Schedule {
 public:
  // kwargs: an object or null. Unknown type or key, or a value out of range: Error usage.
  Schedule(std::string type, double base_lr, int64_t total_steps, int64_t warmup_steps, const nlohmann::json& kwargs = {});

  // Rate of the step with this index, counted from 0 (step t from 1 uses rate(t - 1)); factor = rate / base_lr.
  double rate(int64_t step) const { return base_lr_ * factor(step); }
  double rate(int64_t step, double base_lr) const { return base_lr * factor(step); }  // another parameter group (LoRA+)
  double factor(int64_t step) const;

  // reduce_lr_on_plateau only (nothing otherwise): the evaluation metric, each time there is one. State is kept in checkpoints.
  void observe(double metric);
  nlohmann::json state() const;
  void load_state(const nlohmann::json& state);

 private:
  double warmup_stable_decay(int64_t step) const;

  std::string type_;
  double base_lr_;
  int64_t total_, warmup_;
  double num_cycles_ = 0.5, power_ = 1.0, lr_end_ = 1e-7, min_rate_ = 0.0, timescale_ = 10000;
  std::optional<double> warmup_lr_rate_;
  int64_t stable_ = 0, decay_ = 0;
  std::string warmup_shape_ = "linear", decay_shape_ = "cosine";
  struct Plateau {
    std::string mode = "min", threshold_mode = "rel";
    double factor = 0.1, threshold = 1e-4, min_lr = 0, eps = 1e-8;
    int64_t patience = 10, cooldown = 0;
    std::optional<double> best;
    int64_t bad_evaluations = 0, cooldown_left = 0;
    double scale = 1.0;
  } plateau_;
};

}  // namespace loraine
