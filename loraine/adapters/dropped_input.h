// The input of an adapter behind its dropout. Called by LoRA and by PEFT's methods.
#pragma once
#include "loraine/core/context.h"
#include "loraine/core/tensor.h"
#include "loraine/kernels/rows/elementwise.h"

namespace loraine {

// x [T, in] itself where p is 0, else dropped out in scratch by the mask of `site`, the same in forward and backward.
inline Tensor dropped_input(Context& ctx, const Tensor& x, float p, uint64_t site, Arena& scratch) {
  if (p == 0) return x;
  const Tensor input = scratch.take(x.dtype, {x.rows(), x.cols()});
  dropout(ctx, input, x, p, site);
  return input;
}

}  // namespace loraine
