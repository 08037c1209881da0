// RMSNorm and LayerNorm on the GPU: the ops of rms_norm.h and layer_norm.h, whose shapes and types hold here too; tensors lie in device
// memory.
#pragma once
#include "loraine/core/gpu.h"
#include "loraine/core/tensor.h"

namespace loraine {

void rms_norm_cuda(GpuStream& stream, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, float eps, float offset);
// sum F32 += x, rounded = sum in its type (data == nullptr: not wanted), y = the norm of rounded, or of sum: add_rounded and rms_norm in
// one.
void add_rms_norm_cuda(GpuStream& stream, const Tensor& y, const Tensor& rstd, const Tensor& sum, const Tensor& rounded, const Tensor& x,
                       const Tensor& weight, float eps, float offset);
void rms_norm_rebuild_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight, float offset);
void rms_norm_backward_cuda(GpuStream& stream, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& rstd,
                            const Tensor& weight, bool accumulate, float offset);

void layer_norm_cuda(GpuStream& stream, const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x, const Tensor& weight,
                     const Tensor& bias, float eps, float offset);
void layer_norm_rebuild_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const Tensor& mean, const Tensor& rstd,
                             const Tensor& weight, const Tensor& bias, float offset);
void layer_norm_backward_cuda(GpuStream& stream, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& mean,
                              const Tensor& rstd, const Tensor& weight, float offset, bool accumulate);

}  // namespace loraine
