// The inner loops of activations, gates and soft caps, vectorised with Highway for the instruction set found at run time. Called by
// activation, scaled, sigmoid_gate and causal_conv. Each element depends on its own inputs alone. Outputs may be inputs of the same row.
#pragma once
#include <cstdint>

#include "loraine/core/dtype.h"
#include "loraine/kernels/activations/activation.h"

namespace loraine {

// `type` is F32 or BF16, arithmetic in f32.
void activate_row(void* h, const void* x, Dtype type, int64_t n, const ActivationShape& shape);
void activate_backward_row(void* d_x, const void* d_h, const void* x, Dtype type, int64_t n, const ActivationShape& shape);
void gated_activate_row(void* h, const void* gate, const void* up, Dtype type, int64_t n, const ActivationShape& shape);
void gated_activate_backward_row(void* d_gate, void* d_up, const void* d_h, const void* gate, const void* up, Dtype type, int64_t n,
                                 const ActivationShape& shape);
// Two sums over a row of xIELU (activation.h): xielu_slopes.
void xielu_slopes_row(float* sums, const void* d_h, const void* x, Dtype type, int64_t n);
void sigmoid_gate_row(float* y, const float* x, const float* gate, int64_t n);  // y = x · sigmoid(gate)
// With s = sigmoid(gate): d_x = d_y · s, d_gate = d_y · x · s · (1 − s).
void sigmoid_gate_backward_row(float* d_x, float* d_gate, const float* d_y, const float* x, const float* gate, int64_t n);
void soft_cap_row(float* y, const float* x, int64_t n, float cap);  // y = cap · tanh(x / cap)

}  // namespace loraine
