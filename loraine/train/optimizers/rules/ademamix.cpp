// Three moments per element.
#include "loraine/train/optimizers/rules/ademamix.h"

#include <algorithm>
#include <cmath>

namespace loraine {

std::vector<StateShape> AdEmaMixRule::states(const Parameter& parameter) const {
  const bool eight = eight_bits_ && holds_eight_bits(parameter);
  std::vector<StateShape> states;
  for (const char* name : {"m", "slow", "v"}) add_moment(states, name, parameter.value.rows(), parameter.value.cols(), eight);
  return states;
}

void AdEmaMixRule::update(Context& ctx, const Update& u, States states, float*) const {
  AdEmaMix now = options_;
  const double step = static_cast<double>(u.step);
  if (alpha_steps_ > 0) now.alpha = std::min(step * options_.alpha / static_cast<double>(alpha_steps_), options_.alpha);
  if (beta3_steps_ > 0) {  // its half-life grows linearly
    const double from = std::log(options_.beta1), to = std::log(options_.beta3), share = step / static_cast<double>(beta3_steps_);
    now.beta3 = std::min(std::exp(from * to / ((1 - share) * to + share * from)), options_.beta3);
  }
  const bool eight = states.size() == 6;
  const Moment m = take_moment(states, eight), slow = take_moment(states, eight), v = take_moment(states, eight, false);
  ademamix(ctx, u, m, slow, v, now);
}

}  // namespace loraine
