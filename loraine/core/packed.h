// ggml's block types: what their bytes mean. The reference for the vectorised kernels; used by io to read a GGUF.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// n elements (a multiple of the block) of packed bytes to f32, each rounded as ggml's dequantisation does.
void unpack(float* out, const void* blocks, Dtype dtype, int64_t n);
// The same for a contiguous view of any packed type.
void unpack(float* out, const Tensor& view);

}  // namespace loraine
