// Products of INT8 weights (core/quant_state.h) with rows of activations in 8-bit integers, x [T, K] ≈ scales[t] · q[t, k]. Sums are exact
// in 32-bit integers on every machine: with VNNI through oneDNN, elsewhere multiplied in f32 by pieces of K whose sums f32 holds, and of a
// few rows always as they lie (int8_dots). Called by quant/int8_weight.
#pragma once
#include <span>
#include <vector>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

struct Int8Rows {
  Tensor q;                       // [T, K] I8 from −127 to 127; rows may be strided
  const float* scales = nullptr;  // [T]
};

// The largest K (of all parts together) whose sum of products 127 · 127 stays in 32 bits.
inline constexpr int64_t kMostInt8Terms = 131072;

// q[t, k] = x[t, k] · f[k] / scales[t] rounded to nearest even, scales[t] = max_k |x[t, k] f[k]| / 127, where f are the column_factors (1
// when nullptr). A factor of 0 leaves a column out of the maximum too. A row of zeros, or of nothing above 1e-36, has the scale 0; one that
// holds NaN or infinity has the scale NaN, so that what comes of it is NaN. x: F32 or BF16.
void quantise_rows(Context& ctx, const Tensor& q, float* scales, const Tensor& x, const float* column_factors = nullptr);

// y [M, ΣN_i] = x partsᵀ, parts [N_i, K] INT8: float(Σ_k x.q[m, k] w[n, k]) · (scale of w's row n) · x.scales[m]. y is F32 or BF16. Each
// row has the bits that it has alone.
void int8_matmul_nt(Context& ctx, const Tensor& y, const Int8Rows& x, std::span<const Tensor> parts);

// What a few rows have beside their rounded numbers: of row t those from first[t] to first[t + 1], by ascending column.
struct ExactTerms {
  std::vector<size_t> first;  // [M + 1]
  std::vector<int64_t> columns;
  std::vector<float> values;
};
// The same for M of at most kFewRows (matmul.h), and + (Σ values · w[n, column]) · (scale of w's row n). Reads w once.
void int8_matmul_few_rows(Context& ctx, const Tensor& y, const Int8Rows& x, const ExactTerms& exact, std::span<const Tensor> parts);

// y [M, N] = beta · y + Σ x_i w_i, x_i the columns of x [M, ΣK_i] that belong to w_i [K_i, N] INT8: float(Σ_k x.q[m, k] w[k, n]) ·
// x.scales[m]. beta is 0 or 1. Scales of the rows of w lie along the sum: who makes x gives them to quantise_rows as column_factors.
void int8_matmul_nn(Context& ctx, const Tensor& y, const Int8Rows& x, std::span<const Tensor> parts, float beta = 0);

// Whether products run on integer instructions here, and not in f32.
bool has_int8_products();
// Bytes of scratch that one thread needs in these products.
size_t int8_scratch_bytes(int64_t K);

}  // namespace loraine
