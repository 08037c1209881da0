// Matrix products on oneDNN, cut into fixed tiles so that the result does not depend on the number of threads. Row-major. Activations x and
// y are F32 or BF16, the other operand F32, F16 or BF16. With x in BF16 both are multiplied in bf16 where the machine has the instructions
// (an f32 w is rounded), sums in f32, one rounding of y; else what has 16 bits is widened tile by tile and multiplied in f32.
#pragma once
#include <span>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

// Columns of y that a tile has at most; as many rows of a 16-bit weight are widened at a time, by each thread.
inline constexpr int64_t kTileColumns = 192;

// y [M, N] = alpha · x [M, K] wᵀ (w [N, K]) + beta · y. Rows of y, x and w may be strided.
void matmul_nt(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha = 1, float beta = 0);
// The same for a stack of at most kMostParts parts [N_i, K], all tiles in one parallel loop: y [M, ΣN_i] = x partsᵀ. With up to kFewRows
// rows, as in decoding, every part is read from memory once for all rows, and each row of y has the bits that it has alone.
inline constexpr int64_t kFewRows = 32;
inline constexpr size_t kMostParts = 4;
void matmul_nt_parts(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> parts);
// y [M, N] = Σ x_i w_i + beta · y, x_i the columns of x [M, ΣK_i] that belong to w_i [K_i, N].
void matmul_nn_parts(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> parts, float beta = 0);
// y [M, N] = alpha · x [M, K] w (w [K, N]) + beta · y
void matmul_nn(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha = 1, float beta = 0);
// y [M, N] = alpha · xᵀ w (x [K, M], w [K, N]) + beta · y
void matmul_tn(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha = 1, float beta = 0);

}  // namespace loraine
