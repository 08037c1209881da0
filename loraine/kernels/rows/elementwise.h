// Small memory-bound ops: sums, embedding look-up, conversion, gather and scatter of rows, dropout. Activations [T, C] are F32 or BF16 each
// by itself (arithmetic in f32, one rounding); rows may be strided.
#pragma once
#include <cstdint>
#include <span>

#include "loraine/core/context.h"

namespace loraine {

void add(Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b);  // y = a + b; y may be a or b
// sum F32 += x; rounded = sum in its type
void add_rounded(Context& ctx, const Tensor& sum, const Tensor& rounded, const Tensor& x);
void add_bias(Context& ctx, const Tensor& y, const float* bias);  // y [T, C] += bias [C]
void embedding(Context& ctx, const Tensor& y, const Tensor& table,
               std::span<const int32_t> tokens);                    // y [T, C], table [V, C] any float; ids checked
void convert_rows(Context& ctx, const Tensor& y, const Tensor& x);  // y = x in y's type
void gather_rows(Context& ctx, const Tensor& y, const Tensor& x, std::span<const int64_t> rows);   // y[i] = x[rows[i]], of one type
void scatter_rows(Context& ctx, const Tensor& y, const Tensor& x, std::span<const int64_t> rows);  // y = 0; y[rows[i]] = x[i]; F32
// y = x · mask / (1 − p); the mask is a function of (ctx.seed, ctx.step, site, row, column) alone (Philox or like), so the backward is the
// same call on gradients.
void dropout(Context& ctx, const Tensor& y, const Tensor& x, float p, uint64_t site);

}  // namespace loraine
