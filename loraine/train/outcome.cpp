// What the end of a run says: why it ended, which update is saved, and where the best one is. Called by finish().
#include <fmt/format.h>

#include <filesystem>

#include "loraine/train/run.h"

namespace loraine {
namespace {

struct Evaluated {
  int64_t step;
  double value;
};

// The evaluations while training, the newest last; that of the finished run, at the last step once more, is left out.
std::vector<Evaluated> evaluations_of(const Run& run) {
  std::vector<Evaluated> all;
  const std::string name = run.metric_name();
  for (const OrderedJson& entry : run.state.log_history) {
    if (!entry.contains(name) || !entry[name].is_number() || !entry.contains("step") || !entry["step"].is_number_integer()) continue;
    const Evaluated one{entry["step"].get<int64_t>(), entry[name].get<double>()};
    if (one.step > 0 && (all.empty() || all.back().step < one.step)) all.push_back(one);
  }
  return all;
}

}  // namespace

std::vector<std::string> outcome_lines(const Run& run) {
  const TrainConfig& c = run.config;
  const TrainerState& s = run.state;
  std::vector<std::string> lines;
  if (run.objective->share_up_to() > 0 && run.sample_tokens > 0)
    lines.push_back(fmt::format("share_prefixes: {} of {} tokens were computed ({:.3f})", run.computed_tokens, run.sample_tokens,
                                static_cast<double>(run.computed_tokens) / static_cast<double>(run.sample_tokens)));
  const std::vector<Evaluated> all = evaluations_of(run);
  if (all.size() < 2) return lines;
  const bool greater = run.greater_is_better();
  const Evaluated* best = &all.front();
  for (const Evaluated& one : all)
    if (greater ? one.value > best->value : one.value < best->value) best = &one;
  const std::string name = run.metric_name(), what = trains_adapter(c) ? "adapter" : "model";
  if (stopped_early(s))
    lines.push_back(fmt::format(
        "early stopping: {} evaluations without a gain (early_stopping_steps: {}); the best {} was {:.4f}, at step {}, and the run "
        "ends at step {} of {}",
        s.early_stopping.counter, s.early_stopping.patience, name, best->value, best->step, s.global_step, s.max_steps));
  if (c.load_best_model_at_end && s.best_model_checkpoint) {
    lines.push_back(fmt::format("the {} of step {} is saved, the best by {} ({:.4f})", what, s.best_global_step.value_or(best->step), name,
                                s.best_metric.value_or(best->value)));
  } else if (best->step == s.global_step) {
    lines.push_back(fmt::format("the {} of step {} is saved, the best by {} ({:.4f})", what, s.global_step, name, best->value));
  } else {
    const std::string folder = fmt::format("{}/checkpoint-{}", c.output_dir, best->step);
    std::error_code ignored;
    lines.push_back(
        fmt::format("the {} of step {} is saved ({} {:.4f}); the best was that of step {} ({:.4f}): {}", what, s.global_step, name,
                    all.back().value, best->step, best->value,
                    std::filesystem::exists(folder, ignored)
                        ? "it is in " + folder
                        : "to end with it set load_best_model_at_end: true, and save_strategy and save_steps as for evaluations"));
  }
  return lines;
}

}  // namespace loraine
