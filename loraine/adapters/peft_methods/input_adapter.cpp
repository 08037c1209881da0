// Part by part: the changed input, then the base's product with it.
#include "loraine/adapters/peft_methods/input_adapter.h"

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine {

size_t InputAdapter::number_of(size_t part) const {
  return static_cast<size_t>(std::ranges::find(parts_, static_cast<int>(part), &LoraPart::part) - parts_.begin());
}

bool InputAdapter::adapts(int part) const { return number_of(static_cast<size_t>(part)) < parts_.size(); }

void InputAdapter::forward(Context&, const Tensor&, const Tensor&, const Tensor&, bool, Arena&) const {
  throw Error(ErrorKind::internal, "this adapter has no forward apart from its base's: site_forward does both");
}

void InputAdapter::backward(Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, Arena&) {
  throw Error(ErrorKind::internal, "this adapter has no backward apart from its base's: site_backward does both");
}

void InputAdapter::site_forward(Context& ctx, const Weight& base, const Tensor& y, const Tensor& x, const Tensor&, bool,
                                Arena& scratch) const {
  const size_t mark = scratch.mark();
  const Tensor changed = scratch.take(x.dtype, {x.rows(), in_});
  int64_t offset = 0;
  for (size_t p = 0; p < base.parts.size(); ++p) {
    const int64_t out = base.parts[p].weight.rows();
    const size_t i = number_of(p);
    if (i < parts_.size()) change(ctx, changed, x, i);
    multiply_part(ctx, y.col_range(offset, out), base, p, i < parts_.size() ? changed : x);
    offset += out;
  }
  scratch.release(mark);
}

void InputAdapter::site_backward(Context& ctx, const Weight& base, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor&,
                                 Arena& scratch) {
  const size_t mark = scratch.mark();
  const Tensor d_changed = scratch.take(x.dtype, {x.rows(), in_});
  int64_t offset = 0;
  bool accumulate = false;
  for (size_t p = 0; p < base.parts.size(); ++p) {
    const int64_t out = base.parts[p].weight.rows();
    const Tensor d_part = d_y.col_range(offset, out);
    offset += out;
    const size_t i = number_of(p);
    if (i < parts_.size()) {
      multiply_part_backward(ctx, d_changed, base, p, d_part, false);
      change_backward(ctx, d_x, d_changed, x, i, accumulate);
    } else if (d_x.data) {
      multiply_part_backward(ctx, d_x, base, p, d_part, accumulate);
    }
    accumulate = true;
  }
  scratch.release(mark);
}

}  // namespace loraine
