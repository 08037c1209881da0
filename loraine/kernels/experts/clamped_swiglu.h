// gpt-oss's SwiGLU: h = (up + 1) · gate · sigmoid(1.702 · gate), gate clamped from above, up from both sides.
#pragma once
#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

struct ClampedSwiglu {
  float limit = 7;           // gate <= limit, |up| <= limit
  float steepness = 1.702f;  // of the sigmoid
  bool interleaved = true;   // gate in the even columns and up in the odd ones, or gate in the first half and up in the other
};

// h [T, F]; gate_up [T, 2F]; all F32 or all BF16.
void clamped_swiglu(Context& ctx, const Tensor& h, const Tensor& gate_up, const ClampedSwiglu& how = {});
// d_gate_up (may be gate_up itself) from d_h; 0 where a value was clamped.
void clamped_swiglu_backward(Context& ctx, const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up,
                             const ClampedSwiglu& how = {});

}  // namespace loraine
