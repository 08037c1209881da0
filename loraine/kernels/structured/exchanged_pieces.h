// The columns of a row taken as a table of pieces, transposed: what GraLoRA does between its two products
// and BOFT before and behind its blocks. Activations x, y [T, C] are F32
// or BF16 each by itself, rows may be strided; y is not x.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// In each of n groups of G = C / n columns: y[t, (b · A + a) · s + i] = x[t, (a · B + b) · s + i] for a < A, b < B, i < s = G / (A B).
// Its backward is the call with A and B exchanged.
void exchange_pieces(Context& ctx, const Tensor& y, const Tensor& x, int64_t A, int64_t B, int64_t n = 1);

}  // namespace loraine
