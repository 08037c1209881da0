// Activations of MLPs on the GPU: the ops of activation.h and swiglu.h (kind silu), whose shapes hold here too; tensors lie in device
// memory.
#pragma once
#include "loraine/core/gpu.h"
#include "loraine/kernels/activations/activation.h"

namespace loraine {

void activate_cuda(GpuStream& stream, const Tensor& h, const Tensor& x, const ActivationShape& shape);
void activate_backward_cuda(GpuStream& stream, const Tensor& d_x, const Tensor& d_h, const Tensor& x, const ActivationShape& shape);
void xielu_slopes_cuda(GpuStream& stream, const Tensor& sums, const Tensor& d_h, const Tensor& x);
void gated_activate_cuda(GpuStream& stream, const Tensor& h, const Tensor& gate_up, const ActivationShape& shape);
// h: with data, what gated_activate gave.
void gated_activate_backward_cuda(GpuStream& stream, const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up,
                                  const ActivationShape& shape, const Tensor& h = {});

}  // namespace loraine
