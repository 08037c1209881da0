// States in one buffer: in the order of the parameters, those of 8 bytes an element first and those of 1 last.
#include "loraine/train/optimizers/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/kernels/training/adamw.h"
#include "loraine/train/optimizers/rules/adamw.h"

namespace loraine {
namespace {

int64_t elements(const StateShape& state) {
  int64_t n = 1;
  for (const int64_t size : state.shape) n *= size;
  return n;
}

size_t bytes_of(const std::vector<StateShape>& states) {
  size_t bytes = 0;
  for (const StateShape& state : states) bytes += static_cast<size_t>(bytes_of(state.dtype, elements(state)));
  return bytes;
}

bool finite(Context& ctx, const Tensor& state) {
  if (state.dtype == Dtype::F32) return std::isfinite(sum_of_squares(ctx, Tensor(state.data, Dtype::F32, {1, state.numel()})));
  if (state.dtype != Dtype::F64) return true;
  const auto* values = static_cast<const double*>(state.data);
  return std::all_of(values, values + state.numel(), [](double value) { return std::isfinite(value); });
}

}  // namespace

std::vector<Parameter> trained(std::vector<Parameter> parameters) {
  std::erase_if(parameters, [](const Parameter& p) { return !p.gradient.data; });
  return parameters;
}

OptimizerBytes bytes_needed(std::span<const Parameter> parameters, const Recipe& recipe) {
  OptimizerBytes need;
  std::vector<size_t> of_block(recipe.blocks ? static_cast<size_t>(recipe.blocks->count) : 0);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Rule& rule = *recipe.parts[i].rule;
    const size_t states = bytes_of(rule.states(parameters[i]));
    need.scratch = std::max(need.scratch, rule.scratch_bytes(parameters[i]));
    if (!recipe.blocks) need.states += states;
    else if (const int64_t block = recipe.blocks->block_of[i]; block >= 0)
      need.states = std::max(need.states, of_block[static_cast<size_t>(block)] += states);
  }
  return need;
}

Optimizer::Optimizer(std::vector<Parameter> parameters, Recipe recipe) : parameters_(std::move(parameters)), recipe_(std::move(recipe)) {
  if (recipe_.parts.size() != parameters_.size() || !std::ranges::all_of(parameters_, [](const Parameter& p) { return p.gradient.data; }))
    throw Error(ErrorKind::internal, "an optimizer needs parameters with gradients and a rule for each");
  for (size_t i = 0; i < parameters_.size(); ++i) shapes_.push_back(recipe_.parts[i].rule->states(parameters_[i]));
  const OptimizerBytes bytes = bytes_needed(parameters_, recipe_);
  memory_ = Buffer(bytes.states, true);
  scratch_ = Buffer(bytes.scratch);
  lay_out();
}

bool Optimizer::now_trained(size_t i) const { return !recipe_.blocks || recipe_.blocks->block_of[i] == recipe_.blocks->block(turn_); }

void Optimizer::lay_out() {
  if (recipe_.blocks) {
    const int64_t turn = recipe_.blocks->turn(done_ + 1);
    if (turn == turn_) return;
    turn_ = turn;
    if (!tensors_.empty()) std::memset(memory_.data(), 0, memory_.bytes());  // BAdam forgets
  }
  tensors_.assign(parameters_.size(), {});
  auto* next = static_cast<char*>(memory_.data());
  std::vector<size_t> now;
  for (size_t i = 0; i < parameters_.size(); ++i)
    if (now_trained(i)) {
      now.push_back(i);
      tensors_[i].resize(shapes_[i].size());
    }
  for (const size_t size : {size_t{8}, size_t{4}, size_t{2}, size_t{1}})
    for (const size_t i : now)
      for (size_t k = 0; k < shapes_[i].size(); ++k) {
        const StateShape& state = shapes_[i][k];
        if (size_of(state.dtype) != size) continue;
        tensors_[i][k] = Tensor(next, state.dtype, state.shape);
        next += tensors_[i][k].bytes();
      }
}

void Optimizer::zero_gradients() {
  for (const Parameter& p : parameters_) std::memset(p.gradient.data, 0, p.gradient.bytes());
}

Update Optimizer::update_of(size_t i, int64_t step) const {
  const Part& part = recipe_.parts[i];
  Update u{parameters_[i].value, parameters_[i].gradient};
  u.decay = part.decay;
  u.step = recipe_.blocks ? step - recipe_.blocks->first_update(turn_) + 1 : step;
  return u;
}

double Optimizer::gradient_norm(Context& ctx) {
  double sum = 0;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    if (now_trained(i)) recipe_.parts[i].rule->restrict_gradient(update_of(i, done_ + 1), static_cast<float*>(scratch_.data()));
    else std::memset(p.gradient.data, 0, p.gradient.bytes());
    sum += sum_of_squares(ctx, p.gradient);
  }
  return std::sqrt(sum);
}

float Optimizer::clip_scale(double norm, double max_norm) {
  return max_norm > 0 ? static_cast<float>(std::min(1.0, max_norm / (norm + 1e-6))) : 1.0f;
}

void Optimizer::step(Context& ctx, double rate, double norm, double max_norm) {
  if (at_averages_) throw Error(ErrorKind::internal, "an update of the values that are evaluated");
  ++done_;
  const float scale = recipe_.clips ? clip_scale(norm, max_norm) : 1.0f;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!now_trained(i)) continue;
    const Part& part = recipe_.parts[i];
    Update u = update_of(i, done_);
    u.scale = scale;
    u.rate = part.rate_factor == 1 ? rate : rate * part.rate_factor;
    part.rule->update(ctx, u, tensors_[i], static_cast<float*>(scratch_.data()));
  }
  lay_out();
}

void Optimizer::resume_at(int64_t done) {
  done_ = done;
  lay_out();
}

void Optimizer::start_from_saved(Context& ctx) {
  at_averages_ = averages();
  to_training(ctx);
}

bool Optimizer::averages() const {
  return std::ranges::any_of(recipe_.parts, [](const Part& part) { return part.rule->averages(); });
}

void Optimizer::to_averages(Context& ctx) {
  if (at_averages_ || !averages()) return;
  at_averages_ = true;
  if (done_ == 0) return;
  for (size_t i = 0; i < parameters_.size(); ++i) recipe_.parts[i].rule->to_averages(ctx, parameters_[i].value, tensors_[i]);
}

void Optimizer::to_training(Context& ctx) {
  if (!at_averages_) return;
  at_averages_ = false;
  if (done_ == 0) return;
  for (size_t i = 0; i < parameters_.size(); ++i) recipe_.parts[i].rule->to_training(ctx, parameters_[i].value, tensors_[i]);
}

std::vector<OptimizerState> Optimizer::states() const {
  std::vector<OptimizerState> states;
  for (size_t i = 0; i < parameters_.size(); ++i)
    for (size_t k = 0; k < tensors_[i].size(); ++k) states.push_back({parameters_[i].name + "." + shapes_[i][k].name, tensors_[i][k]});
  return states;
}

std::string Optimizer::not_finite_state(Context& ctx) const {
  for (size_t i = 0; i < parameters_.size(); ++i)
    for (const Tensor& state : tensors_[i])
      if (!finite(ctx, state)) return parameters_[i].name;
  return "";
}

Optimizer adamw_optimizer(std::vector<Parameter> parameters) {
  parameters = trained(std::move(parameters));
  Recipe recipe = one_rule(std::make_unique<AdamWRule>(0.9, 0.999, 1e-8), parameters, 0);
  return {std::move(parameters), std::move(recipe)};
}

}  // namespace loraine
