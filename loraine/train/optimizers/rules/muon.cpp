// Momentum of 0.95 in Nesterov's form, five iterations, a rate times 0.2 √(larger side).
#include "loraine/train/optimizers/rules/muon.h"

#include <algorithm>
#include <cmath>

#include "loraine/kernels/optimizers/averaged.h"
#include "loraine/kernels/optimizers/orthogonal.h"

namespace loraine {

std::vector<StateShape> MuonRule::states(const Parameter& parameter) const {
  std::vector<StateShape> states;
  add_moment(states, "momentum", parameter.value.rows(), parameter.value.cols());
  return states;
}

size_t MuonRule::scratch_bytes(const Parameter& parameter) const {
  return parameter.value.bytes() +
         static_cast<size_t>(orthogonalise_scratch(parameter.value.rows(), parameter.value.cols())) * sizeof(float);
}

void MuonRule::update(Context& ctx, const Update& u, States states, float* scratch) const {
  constexpr float kMomentum = 0.95f;
  constexpr int kIterations = 5;
  const Tensor direction(scratch, Dtype::F32, {u.value.rows(), u.value.cols()});
  nesterov(ctx, direction, states[0], u.gradient, u.scale, kMomentum);
  orthogonalise(ctx, direction, scratch + direction.numel(), kIterations);
  const double larger = static_cast<double>(std::max(u.value.rows(), u.value.cols()));
  add_and_decay(ctx, u.value, direction, -u.rate * 0.2 * std::sqrt(larger), u.rate * u.decay, false);
}

std::vector<StateShape> MuonAdamWRule::states(const Parameter& parameter) const {
  std::vector<StateShape> states;
  for (const char* name : {"m", "v"}) add_moment(states, name, parameter.value.rows(), parameter.value.cols());
  return states;
}

void MuonAdamWRule::update(Context& ctx, const Update& u, States states, float*) const {
  const Moment m = take_moment(states), v = take_moment(states);
  adam(ctx, u, m, v, options_);
}

}  // namespace loraine
