// RMSNorm: y = x · rstd · (offset + weight), rstd = 1 / sqrt(mean(x²) + eps).
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// x, y [T, C] (F32 or BF16 each by itself; y may be x; rows may be strided), rstd [T] F32, weight [C] F32 (data == nullptr: all are 1,
// whatever the offset), offset 0 but for Gemma's 1. Treats each row of length C by itself: q/k norms pass [T·H, D].
void rms_norm(Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, float eps, float offset = 0);
// y rebuilt from the saved rstd (same bits as the forward).
void rms_norm_rebuild(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight, float offset = 0);
// d_x (+)= gradient of x; weight is frozen. d_x may be d_y when not accumulating.
void rms_norm_backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& rstd, const Tensor& weight,
                       bool accumulate, float offset = 0);

}  // namespace loraine
