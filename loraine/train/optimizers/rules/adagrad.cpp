// The sum of all squares.
#include "loraine/train/optimizers/rules/adagrad.h"

namespace loraine {

std::vector<StateShape> AdagradRule::states(const Parameter& parameter) const {
  std::vector<StateShape> states;
  add_moment(states, "sum", parameter.value.rows(), parameter.value.cols());
  return states;
}

void AdagradRule::update(Context& ctx, const Update& u, States states, float*) const { adagrad(ctx, u, states[0], options_); }

}  // namespace loraine
