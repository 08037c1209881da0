// Products of a few columns or rows on the GPU, as adapters have them, and dequantised weights. Tensors and arrays lie in device memory.
// Products of whole weights are cuBLASLt's.
#pragma once
#include <cstdint>

#include "loraine/core/gpu.h"
#include "loraine/core/quant_state.h"
#include "loraine/core/tensor.h"

namespace loraine {

// The forms of matmul.h: nt: y [M, N] = x [M, K] w [N, K]ᵀ; nn: x [M, K] w [K, N]; tn: x [K, M]ᵀ w [K, N].
enum class ProductForm { nt, nn, tn };

// y = alpha · product, or with accumulate y += that. y, x, w are F32 or BF16 each by itself, sums in f32, one rounding of y; rows may be
// strided. The sums over K are cut into pieces that the shape alone decides; partial [thin_product_room(M, N, K)] floats is room for them.
// nt of x and w in BF16 with N a multiple of 8 up to 64 runs on the matrix units (x Aᵀ of an adapter).
void thin_product_cuda(GpuStream& stream, ProductForm form, const Tensor& y, const Tensor& x, const Tensor& w, float alpha, bool accumulate,
                       float* partial);
int64_t thin_product_room(int64_t M, int64_t N, int64_t K);

// out [rows, cols], contiguous, F32 or BF16: elements from `first` on of codes of type NF4, FP4, INT8 or MXFP4_CODES, with the bits of
// dequantise() (core/quant_state.h) rounded to out's type. The pointers of the state are of device memory.
void dequantise_cuda(GpuStream& stream, const Tensor& out, Dtype type, const QuantState& state, int64_t first);

}  // namespace loraine
