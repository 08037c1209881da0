// A matrix has means of its rows and columns, a vector its squares.
#include "loraine/train/optimizers/rules/adafactor.h"

namespace loraine {

std::vector<StateShape> AdafactorRule::states(const Parameter& parameter) const {
  const Tensor& p = parameter.value;
  if (p.rank < 2) return {{"square", Dtype::F32, {p.rows(), p.cols()}}};
  if (p.rank == 3) return {{"row", Dtype::F32, {p.shape[0], p.shape[1]}}, {"col", Dtype::F32, {p.shape[0], p.shape[2]}}};
  return {{"row", Dtype::F32, {p.rows()}}, {"col", Dtype::F32, {p.cols()}}};
}

size_t AdafactorRule::scratch_bytes(const Parameter& parameter) const { return parameter.value.bytes(); }

void AdafactorRule::update(Context& ctx, const Update& u, States states, float* scratch) const {
  const Tensor direction(scratch, Dtype::F32, {u.value.rows(), u.value.cols()});
  if (states.size() == 1) return adafactor(ctx, u, Tensor(), Tensor(), states[0], direction, options_);
  adafactor(ctx, u, states[0], states[1], Tensor(), direction, options_);
}

}  // namespace loraine
