// What the projections of a recurrent mixer become before its recurrence: logarithms of decays and strengths of writing.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// g [T, N] F32 = −exp(A_log) · softplus(a + dt_bias); a [T, N] F32 or BF16, dt_bias F32 [N], A_log F32 [H]: N / H columns one after the
// other share one. Rows of a may be strided.
void log_decay(Context& ctx, const Tensor& g, const Tensor& a, const Tensor& A_log, const Tensor& dt_bias);
// Overwrites d_a; A_log and dt_bias are frozen.
void log_decay_backward(Context& ctx, const Tensor& d_a, const Tensor& d_g, const Tensor& a, const Tensor& A_log, const Tensor& dt_bias);

// beta [T, N] F32 = largest · sigmoid(b); b F32 or BF16.
void write_strength(Context& ctx, const Tensor& beta, const Tensor& b, float largest);
// Overwrites d_b (F32 or BF16).
void write_strength_backward(Context& ctx, const Tensor& d_b, const Tensor& d_beta, const Tensor& beta, float largest);

// y = log(1 + e^x) to about 2 ulp; y may be x.
void softplus_row(float* y, const float* x, int64_t n, float* room);

}  // namespace loraine
