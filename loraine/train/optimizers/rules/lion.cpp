// One moment.
#include "loraine/train/optimizers/rules/lion.h"

namespace loraine {

std::vector<StateShape> LionRule::states(const Parameter& parameter) const {
  std::vector<StateShape> states;
  add_moment(states, "m", parameter.value.rows(), parameter.value.cols(), eight_bits_ && holds_eight_bits(parameter));
  return states;
}

void LionRule::update(Context& ctx, const Update& u, States states, float*) const {
  const bool eight = states.size() == 2;
  lion(ctx, u, take_moment(states, eight), options_);
}

}  // namespace loraine
