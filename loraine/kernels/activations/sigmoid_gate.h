// Gates: y = x · sigmoid(gate), of single elements or of whole rows, y = x · silu(gate), and y = x · gate. Called by attention with gated
// outputs, by shared experts, by recurrent blocks and by short convolutions.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// x, y [T, C], gate [T, C] or [T, 1] (one per row); F32 or BF16 each by itself (arithmetic in f32, one rounding); rows may be strided. y
// may be x or a gate of its shape.
void sigmoid_gate(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& gate);
// Overwrites d_x (may be d_y or x) and d_gate, of the shape of gate (may be gate). Of one gate per row the sum over C runs in a fixed
// order.
void sigmoid_gate_backward(Context& ctx, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate);
// The same with silu, gate [T, C].
void silu_gate(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& gate);
void silu_gate_backward(Context& ctx, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate);
// y = x · gate, gate [T, C]; y may be either. Its backward is the same call twice: d_x = d_y · gate, d_gate = d_y · x.
void multiply_rows(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& gate);

}  // namespace loraine
