// Rows times a number each, and values kept within a limit. x, y [T, C] F32 or BF16 each by itself; rows may be strided.
#pragma once
#include <span>

#include "loraine/core/context.h"

namespace loraine {

// x[t] *= factors[t], in place; its backward is the same call on gradients.
void scale_rows(Context& ctx, const Tensor& x, std::span<const float> factors);
// y = min(max(x, −limit), limit); y may be x.
void clamp(Context& ctx, const Tensor& y, const Tensor& x, float limit);
// d = 0 where y of the forward lies at the limit.
void clamp_backward(Context& ctx, const Tensor& d, const Tensor& y, float limit);

}  // namespace loraine
