// Attention and rope on the GPU: the ops of attention.h and rope.h, whose shapes and types hold here too; tensors and arrays lie in device
// memory.
#pragma once
#include <span>
#include <vector>

#include "loraine/core/batch.h"
#include "loraine/core/gpu.h"
#include "loraine/kernels/attention/attention.h"
#include "loraine/kernels/attention/rope.h"

namespace loraine {

// positions [T], inverse_frequencies [frequencies]; direction 1, or −1 for the gradient.
void rope_cuda(GpuStream& stream, const Tensor& x, int64_t head_dim, const int32_t* positions, const float* inverse_frequencies,
               int64_t frequencies, float scale, float direction, RopeLayout layout, int64_t first);

}  // namespace loraine
