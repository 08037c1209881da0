// The update in the small space is computed from zeros, taken back, and added.
#include "loraine/train/optimizers/rules/galore.h"

#include <cstring>

#include "loraine/kernels/optimizers/averaged.h"
#include "loraine/kernels/optimizers/factored.h"

namespace loraine {

bool GaLoreRule::eight_bits(const GradientSpace& space) const {
  constexpr int64_t kLeast = 4096;
  return o_.inner == GaLoreOptions::Inner::adamw_8bit && space.low_rows() * space.low_cols() >= kLeast;
}

std::vector<StateShape> GaLoreRule::states(const Parameter& parameter) const {
  const GradientSpace space(o_.space, parameter.value, true);
  std::vector<StateShape> states = space.states();
  if (o_.inner == GaLoreOptions::Inner::adafactor) {
    states.push_back({"row", Dtype::F32, {space.low_rows()}});
    states.push_back({"col", Dtype::F32, {space.low_cols()}});
  } else {
    for (const char* name : {"m", "v"}) add_moment(states, name, space.low_rows(), space.low_cols(), eight_bits(space));
  }
  return states;
}

size_t GaLoreRule::scratch_bytes(const Parameter& parameter) const {
  const GradientSpace space(o_.space, parameter.value, true);
  return (2 * static_cast<size_t>(space.low_rows() * space.low_cols()) + space.between()) * sizeof(float) + parameter.value.bytes();
}

void GaLoreRule::update(Context& ctx, const Update& u, States states, float* scratch) const {
  const GradientSpace space(o_.space, u.value, true);
  const States matrices = states.first(space.states().size());
  states = states.subspan(matrices.size());
  const int64_t rows = space.low_rows(), cols = space.low_cols();
  const Tensor low(scratch, Dtype::F32, {rows, cols}), change(scratch + rows * cols, Dtype::F32, {rows, cols});
  const Tensor full(scratch + 2 * rows * cols, Dtype::F32, {u.value.rows(), u.value.cols()});
  float* between = full.f32() + full.numel();
  if ((u.step - 1) % o_.space.interval == 0) space.find(ctx, u.gradient, matrices);
  space.project(ctx, low, u.gradient, matrices, between);
  Update own{change, low, u.scale, u.rate, 0, u.step};
  if (o_.inner == GaLoreOptions::Inner::adafactor) {
    adafactor_direction(ctx, own, states[0], states[1], Tensor(), change, {});
  } else {
    std::memset(change.data, 0, change.bytes());
    const bool eight = states.size() == 4;
    const Moment m = take_moment(states, eight), v = take_moment(states, eight, false);
    Adam options = o_.adam;
    options.plain_epsilon = o_.inner == GaLoreOptions::Inner::adamw;
    adam(ctx, own, m, v, options);
  }
  space.project_back(ctx, full, change, matrices, between);
  const bool whole = o_.inner == GaLoreOptions::Inner::adafactor;  // a direction; of Adam the change itself
  add_and_decay(ctx, u.value, full, whole ? -u.rate * o_.scale : o_.scale, u.rate * u.decay, !whole);
}

std::vector<StateShape> PlainAdamWRule::states(const Parameter& parameter) const {
  std::vector<StateShape> states;
  for (const char* name : {"m", "v"}) add_moment(states, name, parameter.value.rows(), parameter.value.cols());
  return states;
}

void PlainAdamWRule::update(Context& ctx, const Update& u, States states, float*) const {
  Adam options = options_;
  options.plain_epsilon = options.decay_last = true;
  const Moment m = take_moment(states), v = take_moment(states);
  adam(ctx, u, m, v, options);
}

}  // namespace loraine
