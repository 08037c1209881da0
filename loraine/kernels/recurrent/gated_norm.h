// RMSNorm over groups of columns with a gate beside it, as recurrent mixers end: y = norm(x) · weight · act(gate), or
// y = norm(x · act(gate)) · weight, or without a norm x · act(gate).
#pragma once
#include "loraine/core/context.h"

namespace loraine {

enum class GateActivation { silu, sigmoid };

struct GatedNormShape {
  int64_t width = 0;        // columns that are normalised together; 0: no norm
  bool gate_first = false;  // the gate comes before the norm
  GateActivation activation = GateActivation::silu;
  float eps = 1e-6f;
};

// y (may be x), x, gate [T, C], each F32 or BF16 by itself, rows may be strided; weight F32 [width], the same for all groups, or [C]; data
// == nullptr when there is no norm.
void gated_norm(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& gate, const Tensor& weight, const GatedNormShape& shape);
// Overwrites d_x (may be d_y) and d_gate; weight is frozen.
void gated_norm_backward(Context& ctx, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate,
                         const Tensor& weight, const GatedNormShape& shape);

}  // namespace loraine
