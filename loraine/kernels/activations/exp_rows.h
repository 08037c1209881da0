// The inner loops that need e^x, vectorised with Highway for the instruction set found at run time. Called by swiglu, cross_entropy and
// attention. e^x to about 2 ulp; 0 below −87.7, e^88.3 above 88.3, NaN for NaN. Sums run over vector lanes first, then across: their order
// depends on n alone.
#pragma once
#include <cstdint>

#include "loraine/core/dtype.h"

namespace loraine {

// `type` is F32 or BF16, arithmetic in f32; outputs may be the inputs where they are of one type.
float exp_row(float* x, int64_t n, float scale, float shift);  // x = exp(x · scale − shift); returns the sum
float exp_row(void* out, Dtype type, const float* x, int64_t n, float scale, float shift);
// p = exp(s · scale − lse), d_s = p · (d_p − delta) · scale
void softmax_backward_row(void* p, void* d_s, Dtype type, const float* s, const float* d_p, int64_t n, float scale, float lse, float delta);
float sum_exp_row(const float* x, int64_t n, float shift);  // Σ exp(x − shift); x stays
float max_row(const float* x, int64_t n);                   // −∞ when n is 0; a NaN may be passed over
void scale_row(float* x, int64_t n, float factor);          // x *= factor
// h = gate · sigmoid(gate) · up
void swiglu_row(void* h, const void* gate, const void* up, Dtype type, int64_t n);
// With s = sigmoid(gate): d_gate = d_h · up · s · (1 + gate · (1 − s)), d_up = d_h · gate · s.
void swiglu_backward_row(void* d_gate, void* d_up, const void* d_h, const void* gate, const void* up, Dtype type, int64_t n);

}  // namespace loraine
