// Activations of MLPs, element by element or gated: h = act(x), h = act(gate) · up. Called by the MLPs that are not SwiGLU's, and by what
// needs silu alone.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// silu: x · sigmoid(x). gelu_tanh: GELU by tanh (gelu_new, gelu_pytorch_tanh). gelu_erf: GELU, exact. relu2: relu(x)².
// xielu, with a_p = softplus(alpha_p), a_n = β + softplus(alpha_n), β = 0.5, ε = −10⁻⁶:
//   x > 0: a_p · x² + β · x; else: a_n · (expm1(min(x, ε)) − x) + β · x, whose slope is taken as a_n · expm1(min(x, ε)) + β.
enum class Activation { silu, gelu_tanh, gelu_erf, relu2, relu, xielu };

struct ActivationShape {
  Activation kind = Activation::silu;
  float alpha_p = 0, alpha_n = 0;  // of xielu
};

// Tensors of one call are all F32 or all BF16 (arithmetic in f32, one rounding); rows may be strided.
// h [T, F] (may be x) = act(x [T, F]).
void activate(Context& ctx, const Tensor& h, const Tensor& x, const ActivationShape& shape);
// d_x (may be x or d_h) from d_h.
void activate_backward(Context& ctx, const Tensor& d_x, const Tensor& d_h, const Tensor& x, const ActivationShape& shape);
// What the gradients of xielu's alphas are made of: sums [T, 2] F32, of each row Σ d_h · x² where x > 0 and Σ d_h · (expm1(min(x, ε)) − x)
// elsewhere. That of alpha_p is sigmoid(alpha_p) times the first ones' sum, that of alpha_n likewise.
void xielu_slopes(Context& ctx, const Tensor& sums, const Tensor& d_h, const Tensor& x);
// h [T, F] = act(gate) · up; gate_up [T, 2F]: gate in the first F columns, up in the others. silu is swiglu.
void gated_activate(Context& ctx, const Tensor& h, const Tensor& gate_up, const ActivationShape& shape);
// d_gate_up (may be gate_up itself) from d_h.
void gated_activate_backward(Context& ctx, const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up, const ActivationShape& shape);

}  // namespace loraine
