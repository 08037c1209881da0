// Matrix products on oneDNN, cut into fixed tiles so that the result does not depend on the number of threads. Row-major. Activations x and
// y are F32 or BF16, the other operand F32, F16, BF16 or packed (core/packed.h). With x in BF16 both are multiplied in bf16 where the
// machine has the instructions (an f32 w is rounded), sums in f32, one rounding of y; else what has 16 bits is widened tile by tile and
// multiplied in f32. A packed w is unpacked tile by tile.
#pragma once
#include <span>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

// Columns of y that a tile has at most; as many rows (or columns) of a 16-bit or packed weight are widened at a time, by each thread.
// Packed weights with blocks of 256 are cut along their columns at whole blocks.
inline constexpr int64_t kTileColumns = 192, kBlockTileColumns = 256;

// y [M, N] = alpha · x [M, K] wᵀ (w [N, K]) + beta · y. Rows of y, x and w may be strided.
void matmul_nt(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha = 1, float beta = 0);
// The same for a stack of at most kMostParts parts [N_i, K], all tiles in one parallel loop: y [M, ΣN_i] = x partsᵀ. With up to kFewRows
// rows, as in decoding, every part is read from memory once for all rows, and each row of y has the bits that it has alone.
inline constexpr int64_t kFewRows = 32;
inline constexpr size_t kMostParts = 4;
void matmul_nt_parts(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> parts);
// y [M, N] = Σ x_i w_i + beta · y, x_i the columns of x [M, ΣK_i] that belong to w_i [K_i, N].
void matmul_nn_parts(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> parts, float beta = 0);
// Bytes of scratch that one thread needs for the widened tile of a w of that type [K, N] in matmul_nn with M rows of x; 0 when w is used as
// it lies. With x in BF16 where the machine multiplies it, in_bf16.
size_t widened_bytes(int64_t M, int64_t N, int64_t K, Dtype w, bool in_bf16);
// Bytes of scratch, on the calling thread, for rows of x with at most K columns of that type that are widened before they are multiplied.
size_t widened_x_bytes(int64_t rows, int64_t K, Dtype x);
// y [M, N] = alpha · x [M, K] w (w [K, N]) + beta · y
void matmul_nn(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha = 1, float beta = 0);
// y [M, N] = alpha · xᵀ w (x [K, M], w [K, N]) + beta · y
void matmul_tn(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha = 1, float beta = 0);

}  // namespace loraine
