// LayerNorm: y = (x − mean) · rstd · (offset + weight) + bias, rstd = 1 / sqrt(variance + eps), over each row by itself.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// x, y [T, C] (F32 or BF16 each by itself; y may be x; rows may be strided), mean, rstd [T] F32 (may be strided), weight [C] F32 (data ==
// nullptr: all are 1, whatever the offset), bias [C] F32 (data == nullptr: 0), offset 0 but for Nemotron's 1.
void layer_norm(Context& ctx, const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x, const Tensor& weight,
                const Tensor& bias, float eps, float offset = 0);
// y rebuilt from the saved mean and rstd (same bits as the forward).
void layer_norm_rebuild(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& mean, const Tensor& rstd, const Tensor& weight,
                        const Tensor& bias, float offset);
// d_x (+)= gradient of x; weight and bias are frozen. d_x may be d_y when not accumulating.
void layer_norm_backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& mean, const Tensor& rstd,
                         const Tensor& weight, float offset, bool accumulate);

}  // namespace loraine
