// One factor for all elements, one for each row, and soft caps, on the GPU: the ops of scaled.h and
// scale_rows of row_factors.h, whose shapes and types hold here too; tensors lie in device
// memory.
#pragma once
#include "loraine/core/gpu.h"
#include "loraine/core/tensor.h"

namespace loraine {

void scale_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, float factor);  // y may be x
void scale_rows_cuda(GpuStream& stream, const Tensor& x, const float* factors);      // in place; factors [T]
void soft_cap_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, float cap);  // F32; y may be x
void soft_cap_backward_cuda(GpuStream& stream, const Tensor& d, const Tensor& y, float cap);

}  // namespace loraine
