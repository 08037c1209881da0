// Three moments per element.
#include "loraine/train/optimizers/rules/grokadamw.h"

#include <algorithm>
#include <cmath>

#include "loraine/kernels/training/adamw.h"

namespace loraine {

std::vector<StateShape> GrokAdamWRule::states(const Parameter& parameter) const {
  std::vector<StateShape> states;
  for (const char* name : {"m", "v", "grok"}) add_moment(states, name, parameter.value.rows(), parameter.value.cols());
  return states;
}

void GrokAdamWRule::update(Context& ctx, const Update& u, States states, float*) const {
  Update own = u;
  if (clip_ > 0) {
    const double norm = std::sqrt(sum_of_squares(ctx, u.gradient)) * static_cast<double>(u.scale);
    own.scale *= static_cast<float>(std::min(1.0, clip_ / (norm + 1e-6)));
  }
  grok_adam(ctx, own, states[0], states[1], states[2], options_);
}

}  // namespace loraine
