// Products with a sparse matrix stored row by row, as SHiRA has it. Activations x [T, in], y [T, out] are F32 or BF16 each by itself
// (arithmetic in f32, one rounding), rows may be strided. A row's bits depend on it alone.
#pragma once
#include <span>

#include "loraine/core/context.h"

namespace loraine {

// The values of row o and their columns lie at [starts[o], starts[o + 1]).
struct SparseRows {
  std::span<const int32_t> starts;  // [out + 1]
  std::span<const int32_t> columns;
  std::span<const float> values;
  int64_t in = 0;
  int64_t out() const { return static_cast<int64_t>(starts.size()) - 1; }
};

// y += x Sᵀ
void multiply_sparse(Context& ctx, const Tensor& y, const Tensor& x, const SparseRows& s);
// d_x += d_y S (skipped when its data is nullptr); d_values += their gradients, over the rows in order.
void multiply_sparse_backward(Context& ctx, const Tensor& d_x, std::span<float> d_values, const Tensor& d_y, const Tensor& x,
                              const SparseRows& s);

}  // namespace loraine
