// Rows of f32 to ggml's blocks, byte for byte as ggml's reference quantisation makes them without an importance matrix. Called by export.
#pragma once
#include <cstdint>

#include "loraine/core/dtype.h"

namespace loraine {

bool can_quantise(Dtype dtype);  // Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K

// n values (a multiple of the type's block) to blocks. Values are finite.
void quantise(void* blocks, Dtype dtype, const float* values, int64_t n);

// The types with super-blocks of 256 (gguf_quantise_k.cpp).
void quantise_k(void* blocks, Dtype dtype, const float* values, int64_t n);

}  // namespace loraine
