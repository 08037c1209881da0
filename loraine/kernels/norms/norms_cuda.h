// RMSNorm and LayerNorm on the GPU: the ops of rms_norm.h and layer_norm.h, whose shapes and types hold here too; tensors lie in device
// memory.
#pragma once
#include <span>

#include "loraine/core/gpu.h"
#include "loraine/core/tensor.h"

namespace loraine {

void rms_norm_cuda(GpuStream& stream, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, float eps, float offset);
// sum F32 += x (without data: sum stays), rounded = sum in its type (without data: not wanted), y = the norm of rounded, or of sum:
// add_rounded and rms_norm in one.
void add_rms_norm_cuda(GpuStream& stream, const Tensor& y, const Tensor& rstd, const Tensor& sum, const Tensor& rounded, const Tensor& x,
                       const Tensor& weight, float eps, float offset);
void rms_norm_rebuild_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const Tensor& rstd, const Tensor& weight, float offset);
// With data: rounded = d_x in the type of x, h = what the norm gave (rms_norm_rebuild), in that type too.
void rms_norm_backward_cuda(GpuStream& stream, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& rstd,
                            const Tensor& weight, bool accumulate, float offset, const Tensor& rounded = {}, const Tensor& h = {});

// RMSNorm of the heads of q, k and v, all in one launch. A group: `count` pieces of `width` columns from `first` on, with one weight
// ([width] F32, may be nullptr).
struct HeadNormGroup {
  int64_t first, count, width;
  const float* weight;
  float eps, offset;
};
constexpr int kMostHeadNormGroups = 3;
// x [T, columns] becomes its norm in place, before [T, columns] of its type keeps what it was, there too.
// rstd [pieces, T] F32, in the order of the groups.
void head_norms_cuda(GpuStream& stream, const Tensor& x, const Tensor& before, const Tensor& rstd, std::span<const HeadNormGroup> groups);
// d [T, columns] in place.
void head_norms_backward_cuda(GpuStream& stream, const Tensor& d, const Tensor& before, const Tensor& rstd,
                              std::span<const HeadNormGroup> groups);

void layer_norm_cuda(GpuStream& stream, const Tensor& y, const Tensor& mean, const Tensor& rstd, const Tensor& x, const Tensor& weight,
                     const Tensor& bias, float eps, float offset);
void layer_norm_rebuild_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const Tensor& mean, const Tensor& rstd,
                             const Tensor& weight, const Tensor& bias, float offset);
void layer_norm_backward_cuda(GpuStream& stream, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& mean,
                              const Tensor& rstd, const Tensor& weight, float offset, bool accumulate);

}  // namespace loraine
