// z, for Adam the mean of squares, and two numbers: the sum of weights and the largest rate so far.
#include "loraine/train/optimizers/rules/schedule_free.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/kernels/optimizers/averaged.h"

namespace loraine {
namespace {

// RAdam's factor of the rate; nothing is done before the variance can be told.
struct Rectified {
  double factor = 0;
  bool divides = false;
};
Rectified rectified(double beta2, double step) {
  const double power = std::pow(beta2, step), most = 2 / (1 - beta2) - 1, now = most - 2 * step * power / (1 - power);
  if (now <= 4) return {};
  return {std::sqrt((now - 4) * (now - 2) * most / ((most - 4) * (most - 2) * now)), true};
}

}  // namespace

std::vector<StateShape> ScheduleFreeRule::states(const Parameter& parameter) const {
  std::vector<StateShape> states = {{"weights", Dtype::F64, {2}}};
  add_moment(states, "z", parameter.value.rows(), parameter.value.cols());
  if (o_.kind != ScheduleFreeOptions::Kind::sgd) add_moment(states, "v", parameter.value.rows(), parameter.value.cols());
  return states;
}

void ScheduleFreeRule::update(Context& ctx, const Update& u, States states, float*) const {
  const double step = static_cast<double>(u.step);
  auto* weights = static_cast<double*>(states[0].data);  // their sum, the largest rate
  const Tensor &z = states[1], v = states.size() > 2 ? states[2] : Tensor();
  if (u.step == 1) {
    std::memcpy(z.data, u.value.data, z.bytes());
    weights[1] = -1;
  }
  ScheduleFree now{o_.beta1, o_.beta2, o_.epsilon};
  Update own = u;
  if (o_.kind == ScheduleFreeOptions::Kind::radam) {
    const Rectified r = rectified(o_.beta2, step);
    own.rate *= r.factor;
    now.divides = r.divides;
  } else if (u.step <= o_.warmup_steps) {
    own.rate *= step / static_cast<double>(o_.warmup_steps);
  }
  weights[1] = std::max(weights[1], own.rate);
  const double weight = std::pow(step, o_.r) * std::pow(weights[1], o_.weight_power);
  weights[0] += weight;
  now.share = weights[0] > 0 ? weight / weights[0] : 0;
  schedule_free(ctx, own, z, v, now);
}

void ScheduleFreeRule::to_averages(Context& ctx, const Tensor& value, States states) const {
  go_towards(ctx, value, states[1], 1 - 1 / o_.beta1);
}

void ScheduleFreeRule::to_training(Context& ctx, const Tensor& value, States states) const {
  go_towards(ctx, value, states[1], 1 - o_.beta1);
}

}  // namespace loraine
