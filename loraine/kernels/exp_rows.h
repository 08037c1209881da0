// The inner loops that need e^x, vectorised with Highway for the instruction set found at run time. Called by swiglu, cross_entropy and
// attention. e^x to about 2 ulp; 0 below −87.7, e^88.3 above 88.3, NaN for NaN. Sums run over vector lanes first, then across: their order
// depends on n alone.
#pragma once
#include <cstdint>

namespace loraine {

float exp_row(float* x, int64_t n, float scale, float shift);  // x = exp(x · scale − shift); returns the sum
float sum_exp_row(const float* x, int64_t n, float shift);     // Σ exp(x − shift); x stays
float max_row(const float* x, int64_t n);                      // −∞ when n is 0; a NaN may be passed over
void scale_row(float* x, int64_t n, float factor);             // x *= factor
// h = gate · sigmoid(gate) · up
void swiglu_row(float* h, const float* gate, const float* up, int64_t n);
// With s = sigmoid(gate): d_gate = d_h · up · s · (1 + gate · (1 − s)), d_up = d_h · gate · s. The outputs may be the inputs.
void swiglu_backward_row(float* d_gate, float* d_up, const float* d_h, const float* gate, const float* up, int64_t n);

}  // namespace loraine
