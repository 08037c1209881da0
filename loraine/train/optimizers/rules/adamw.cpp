// Two moments per element.
#include "loraine/train/optimizers/rules/adamw.h"

#include "loraine/kernels/optimizers/adaptive.h"
#include "loraine/kernels/training/adamw.h"

namespace loraine {

std::vector<StateShape> AdamWRule::states(const Parameter& parameter) const {
  const bool eight = eight_bits_ && holds_eight_bits(parameter);
  std::vector<StateShape> states;
  for (const char* name : {"m", "v"}) add_moment(states, name, parameter.value.rows(), parameter.value.cols(), eight);
  return states;
}

void AdamWRule::update(Context& ctx, const Update& u, States states, float*) const {
  if (states.size() == 4) {
    const Moment m = take_moment(states, true), v = take_moment(states, true, false);
    return adam(ctx, u, m, v, {beta1_, beta2_, epsilon_});
  }
  const AdamW options{static_cast<float>(u.rate),   static_cast<float>(beta1_),  static_cast<float>(beta2_),
                      static_cast<float>(epsilon_), static_cast<float>(u.decay), u.step};
  adamw(ctx, u.value, states[0], states[1], u.gradient, u.scale, options);
}

}  // namespace loraine
