// Diagonal blocks on the CPU: row by row forward, block by block for the gradient of the blocks.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

// y [b] += x [b] r
LORAINE_CLONES void add_block_row(float* y, const float* x, const float* r, int64_t b) {
  for (int64_t j = 0; j < b; ++j) {
    const float factor = x[j];
#pragma omp simd
    for (int64_t c = 0; c < b; ++c) y[c] += factor * r[j * b + c];
  }
}

// y [b] += x [b] rᵀ
LORAINE_CLONES void add_block_row_transposed(float* y, const float* x, const float* r, int64_t b) {
  for (int64_t c = 0; c < b; ++c) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < b; ++j) sum += x[j] * r[c * b + j];
    y[c] += sum;
  }
}

// r [b, b] += x [b] ⊗ y [b]
LORAINE_CLONES void add_outer(float* r, const float* x, const float* y, int64_t b) {
  for (int64_t j = 0; j < b; ++j) {
    const float factor = x[j];
#pragma omp simd
    for (int64_t c = 0; c < b; ++c) r[j * b + c] += factor * y[c];
  }
}

}  // namespace

void multiply_blocks_cpu(const Tensor& y, const Tensor& x, const Tensor& r, bool transposed, bool accumulate) {
  const int64_t C = x.cols(), b = r.shape[1], n = C / b;
  const bool shared = r.shape[0] == 1;
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(2 * C);
        float* out = begin_row(y, t, room);
        if (accumulate) read_row(y, t, out);
        else std::fill_n(out, C, 0.0f);
        const float* in = read_row(x, t, room + C);
        for (int64_t k = 0; k < n; ++k) {
          const float* block = r.f32() + (shared ? 0 : k * b * b);
          if (transposed) add_block_row_transposed(out + k * b, in + k * b, block, b);
          else add_block_row(out + k * b, in + k * b, block, b);
        }
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void multiply_blocks_gradient_cpu(const Tensor& d_r, const Tensor& x, const Tensor& d_y) {
  const int64_t b = d_r.shape[1], n = x.cols() / b;
  const bool shared = d_r.shape[0] == 1;
  const auto add_block = [&](int64_t k, float* sum) {
    const Tensor left = x.col_range(k * b, b), right = d_y.col_range(k * b, b);
    float* room = row_room(2 * b);
    for (int64_t t = 0; t < x.rows(); ++t) add_outer(sum, read_row(left, t, room), read_row(right, t, room + b), b);
  };
  if (!shared) return parallel_for(n, [&](int64_t k) { add_block(k, d_r.f32() + k * b * b); });
  std::vector<float> sums(static_cast<size_t>(n * b * b), 0.0f);  // added up in one order
  parallel_for(n, [&](int64_t k) { add_block(k, sums.data() + k * b * b); });
  for (int64_t k = 0; k < n; ++k)
    for (int64_t i = 0; i < b * b; ++i) d_r.f32()[i] += sums[static_cast<size_t>(k * b * b + i)];
}

}  // namespace loraine
