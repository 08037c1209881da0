// Part by part: the changed input, then the base's product with it.
#include "loraine/adapters/peft_methods/input_adapter.h"

#include <vector>

#include "loraine/adapters/peft_methods/method_tensors.h"
#include "loraine/core/error.h"
#include "loraine/kernels/rows/columns.h"
#include "loraine/kernels/rows/elementwise.h"

namespace loraine {

bool InputAdapter::adapts(int part) const { return part_number(parts_, part) < parts_.size(); }

void InputAdapter::forward(Context&, const Tensor&, const Tensor&, const Tensor&, bool, Arena&) const {
  throw Error(ErrorKind::internal, "this adapter has no forward apart from its base's: site_forward does both");
}

void InputAdapter::backward(Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, Arena&) {
  throw Error(ErrorKind::internal, "this adapter has no backward apart from its base's: site_backward does both");
}

void InputAdapter::site_forward(Context& ctx, const Weight& base, const Tensor& y, const Tensor& x, const Tensor& saved, bool,
                                Arena& scratch) const {
  const size_t mark = scratch.mark();
  const Tensor changed = scratch.take(x.dtype, {x.rows(), in_});
  int64_t offset = 0, kept = 0;
  for (size_t p = 0; p < base.parts.size(); ++p) {
    const int64_t out = base.parts[p].weight.rows();
    const size_t i = part_number(parts_, static_cast<int>(p));
    const Tensor to = y.col_range(offset, out);
    const float* factors = i < parts_.size() ? output_factors(i) : nullptr;
    if (i < parts_.size()) change(ctx, changed, x, i, scratch);
    multiply_part(ctx, to, base, p, i < parts_.size() ? changed : x, !factors);
    if (factors) {
      convert_rows(ctx, saved.col_range(kept, out), to);
      scale_columns(ctx, to, to, factors, base.parts[p].bias);
      kept += out;
    }
    offset += out;
  }
  scratch.release(mark);
}

void InputAdapter::site_backward(Context& ctx, const Weight& base, const Tensor& d_x, const Tensor& d_y, const Tensor& x,
                                 const Tensor& saved, Arena& scratch) {
  const size_t mark = scratch.mark();
  const Tensor d_changed = scratch.take(x.dtype, {x.rows(), in_});
  int64_t offset = 0, kept = 0;
  bool accumulate = false;
  for (size_t p = 0; p < base.parts.size(); ++p) {
    const int64_t out = base.parts[p].weight.rows();
    const Tensor d_part = d_y.col_range(offset, out);
    offset += out;
    const size_t i = part_number(parts_, static_cast<int>(p));
    if (i < parts_.size()) {
      const size_t inner = scratch.mark();
      Tensor d_product = d_part;
      if (const float* factors = output_factors(i)) {
        const std::vector<float> ones(static_cast<size_t>(out), 1.0f);
        column_dots(ctx, output_factor_gradients(i), d_part, saved.col_range(kept, out), ones.data());
        d_product = scratch.take(d_y.dtype, {d_y.rows(), out});
        scale_columns(ctx, d_product, d_part, factors);
        kept += out;
      }
      multiply_part_backward(ctx, d_changed, base, p, d_product, false);
      change_backward(ctx, d_x, d_changed, x, i, accumulate, scratch);
      scratch.release(inner);
    } else if (d_x.data) {
      multiply_part_backward(ctx, d_x, base, p, d_part, accumulate);
    }
    accumulate = true;
  }
  scratch.release(mark);
}

}  // namespace loraine
