// Two moments per element.
#include "loraine/train/optimizers/rules/stable_adamw.h"

namespace loraine {

std::vector<StateShape> StableAdamWRule::states(const Parameter& parameter) const {
  std::vector<StateShape> states;
  for (const char* name : {"m", "v"}) add_moment(states, name, parameter.value.rows(), parameter.value.cols());
  return states;
}

void StableAdamWRule::update(Context& ctx, const Update& u, States states, float*) const {
  stable_adam(ctx, u, states[0], states[1], options_);
}

}  // namespace loraine
