// Copying stored elements into a tensor, in parallel pieces. Used by the safetensors and GGUF sources.
#pragma once
#include <cstdint>
#include <functional>

#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

int64_t element_count(const TensorInfo& info);

// Throws internal when `out` cannot hold the elements of `info`.
void check_destination(const TensorInfo& info, const Tensor& out);

// source: row-major elements of info.dtype, of any alignment.
void read_plain(const TensorInfo& info, const unsigned char* source, const Tensor& out);

// Writes elements [first, first + count) (row-major) of a possibly strided `out`.
void store_f32(const Tensor& out, int64_t first, const float* values, int64_t count);

}  // namespace loraine
