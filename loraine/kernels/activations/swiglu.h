// SwiGLU: h = silu(gate) · up.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// h [T, F]; gate_up [T, 2F]: gate in the first F columns, up in the others; all F32 or all BF16.
void swiglu(Context& ctx, const Tensor& h, const Tensor& gate_up);
// d_gate_up (may be gate_up itself) from d_h.
void swiglu_backward(Context& ctx, const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up);

}  // namespace loraine
