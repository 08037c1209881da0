// One state with momentum, none without.
#include "loraine/train/optimizers/rules/sgd.h"

namespace loraine {

std::vector<StateShape> SgdRule::states(const Parameter& parameter) const {
  std::vector<StateShape> states;
  if (options_.momentum != 0) add_moment(states, "momentum", parameter.value.rows(), parameter.value.cols());
  return states;
}

void SgdRule::update(Context& ctx, const Update& u, States states, float*) const {
  sgd(ctx, u, states.empty() ? Tensor() : states[0], options_);
}

}  // namespace loraine
