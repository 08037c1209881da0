// One factor for all elements, and soft caps, on the GPU: the ops of scaled.h, whose shapes and types hold here too; tensors lie in device
// memory.
#pragma once
#include "loraine/core/gpu.h"
#include "loraine/core/tensor.h"

namespace loraine {

void scale_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, float factor);  // y may be x
void soft_cap_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, float cap);  // F32; y may be x
void soft_cap_backward_cuda(GpuStream& stream, const Tensor& d, const Tensor& y, float cap);

}  // namespace loraine
