// Products of packed weights, as they lie in a GGUF file, in whole numbers: activations are rounded to 8 bits by blocks of 32, as llama.cpp
// rounds them. Called by quant/weight for the layers whose products are integers.
#pragma once
#include <span>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

// Whether packed_int8_matmul takes the type: block types of ggml.
bool has_integer_blocks(Dtype dtype);
// y [M, ΣN_i] = x [M, K] partsᵀ for at most kMostParts parts [N_i, K] of such types; x and y F32 or BF16, sums in f32. The bits of a row
// depend neither on the other rows, however many, nor on the number of threads. With up to kMostRoundedRows rows every part is read from
// memory once.
void packed_int8_matmul(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> parts);

}  // namespace loraine
