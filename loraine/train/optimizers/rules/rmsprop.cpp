// The running mean of squares; centered, that of the gradient; with momentum, its buffer.
#include "loraine/train/optimizers/rules/rmsprop.h"

namespace loraine {

std::vector<StateShape> RmsPropRule::states(const Parameter& parameter) const {
  const int64_t rows = parameter.value.rows(), cols = parameter.value.cols();
  std::vector<StateShape> states;
  add_moment(states, "square", rows, cols, eight_bits_ && holds_eight_bits(parameter));
  if (options_.centered) add_moment(states, "mean", rows, cols);
  if (options_.momentum > 0) add_moment(states, "momentum", rows, cols);
  return states;
}

void RmsPropRule::update(Context& ctx, const Update& u, States states, float*) const {
  const Moment square = take_moment(states, states[0].dtype == Dtype::U8);  // bitsandbytes keeps it in the map with signs
  const Tensor mean = options_.centered ? take_moment(states).values : Tensor();
  const Tensor buffer = options_.momentum > 0 ? take_moment(states).values : Tensor();
  rmsprop(ctx, u, square, mean, buffer, options_);
}

}  // namespace loraine
