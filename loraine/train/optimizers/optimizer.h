// All that a run updates, with the states of its rules in planned memory, and clipping by the global norm. Called by the step loop.
#pragma once
#include "loraine/train/optimizers/recipe.h"
#include "loraine/train/optimizers/state_file.h"

namespace loraine {

// Those that have a gradient.
std::vector<Parameter> trained(std::vector<Parameter> parameters);

// Memory of the states (of blocks, those of the largest) and beside them.
struct OptimizerBytes {
  size_t states = 0, scratch = 0;
};
OptimizerBytes bytes_needed(std::span<const Parameter> parameters, const Recipe& recipe);

class Optimizer {
 public:
  Optimizer(std::vector<Parameter> parameters, Recipe recipe);  // parameters: all of them trained
  void zero_gradients();
  // Of what is trained at the coming update. Gradients of anything else become 0.
  double gradient_norm(Context& ctx);
  static float clip_scale(double norm, double max_norm);  // torch: max_norm / (norm + 1e-6), at most 1; 1 when max_norm is 0
  // Gradients times clip_scale where the recipe clips, then the update. rate: the learning rate before the factors of the recipe.
  void step(Context& ctx, double rate, double norm, double max_norm);
  // Of a run that is resumed after `done` updates: before its states are read, and once values and states are those of its checkpoint.
  void resume_at(int64_t done);
  void start_from_saved(Context& ctx);

  // From the values that are trained to those that are evaluated and saved, and back; nothing where they are the same ones.
  void to_averages(Context& ctx);
  void to_training(Context& ctx);
  bool at_averages() const { return at_averages_; }
  bool averages() const;

  std::vector<OptimizerState> states() const;        // those kept now, by name
  std::string not_finite_state(Context& ctx) const;  // the first parameter with a state that is not finite, or nothing
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const Part& part(size_t i) const { return recipe_.parts[i]; }  // of parameters()[i]
  size_t bytes() const { return memory_.bytes() + scratch_.bytes(); }

 private:
  bool now_trained(size_t i) const;
  void lay_out();  // the states of what is trained now
  Update update_of(size_t i, int64_t step) const;

  std::vector<Parameter> parameters_;
  Recipe recipe_;
  std::vector<std::vector<StateShape>> shapes_;  // one list per parameter
  std::vector<std::vector<Tensor>> tensors_;
  int64_t done_ = 0;   // updates
  int64_t turn_ = -1;  // of the blocks: that whose states are laid out
  bool at_averages_ = false;
  Buffer memory_, scratch_;
};

// Of AdamW with torch's defaults: for what measures a step.
Optimizer adamw_optimizer(std::vector<Parameter> parameters);

}  // namespace loraine
