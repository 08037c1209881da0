// Products on the CPU: y is cut into tiles fixed by its shape, each computed by one thread over the whole of K.
#include <algorithm>
#include <span>

#include "loraine/core/tensor.h"
#include "loraine/kernels/library_product.h"
#include "loraine/kernels/machine.h"
#include "loraine/kernels/matmul.h"
#include "loraine/kernels/parallel.h"
#include "loraine/kernels/row_dots.h"
#include "loraine/kernels/sgemm.h"

namespace loraine {
namespace {

constexpr int64_t kTileM = 256, kTileN = kTileColumns;  // multiples of oneDNN's register blocks (8 and 48)

const char* at(const Tensor& t, int64_t row, int64_t col) {
  return static_cast<const char*>(t.data) + (row * t.row_stride + col) * static_cast<int64_t>(size_of(t.dtype));
}

// The block [row, row + rows) × [col, col + cols) of w as f32: in place when it is f32, else widened into this thread's scratch.
struct F32Block {
  const float* data;
  int64_t stride;
};
F32Block widen(const Tensor& w, int64_t row, int64_t rows, int64_t col, int64_t cols) {
  if (w.dtype == Dtype::F32) return {w.f32() + row * w.row_stride + col, w.row_stride};
  thread_local Buffer scratch;
  size_t bytes = static_cast<size_t>(rows * cols) * sizeof(float);
  if (scratch.bytes() < bytes) scratch = Buffer(bytes);
  float* out = static_cast<float*>(scratch.data());
  for (int64_t r = 0; r < rows; ++r) widen_row(out + r * cols, at(w, row + r, col), w.dtype, cols);
  return {out, cols};
}

// Decode: few rows of x, so the product runs at the speed of reading w once.
constexpr int64_t kDotRows = 32;

// y[:, n0 .. n0 + n) for the few rows.
void dot_block(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta, int64_t n0, int64_t n) {
  float sums[kDotRows];
  for (int64_t m = 0; m < x.rows(); ++m) {
    row_dots(sums, at(w, n0, 0), w.dtype, w.row_stride, n, x.f32() + m * x.row_stride, x.cols());
    float* out = y.f32() + m * y.row_stride + n0;
    for (int64_t r = 0; r < n; ++r) out[r] = alpha * sums[r] + (beta == 0 ? 0.0f : beta * out[r]);
  }
}

int64_t dot_blocks(int64_t N) { return (N + kDotRows - 1) / kDotRows; }
int64_t dot_chunk(int64_t K) { return std::max<int64_t>(1, 32768 / (kDotRows * K + 1)); }  // small products stay on one thread

// Calls tile(m0, m, n0, n) for every tile of an M × N result.
template <class Tile>
void for_tiles(int64_t M, int64_t N, Tile&& tile) {
  int64_t tiles_m = (M + kTileM - 1) / kTileM, tiles_n = (N + kTileN - 1) / kTileN;
  parallel_for(tiles_m * tiles_n, [&](int64_t i) {
    int64_t m0 = i % tiles_m * kTileM, n0 = i / tiles_m * kTileN;
    tile(m0, std::min(kTileM, M - m0), n0, std::min(kTileN, N - n0));
  });
}

Tensor tile_of(const Tensor& y, int64_t m0, int64_t m, int64_t n0, int64_t n) { return y.row_range(m0, m).col_range(n0, n); }

bool multiplies_in_bf16(const Tensor& w, float alpha, float beta, bool use_bf16) {
  static const bool has = has_bf16_products();
  return use_bf16 && has && w.dtype == Dtype::BF16 && alpha == 1 && (beta == 0 || beta == 1);
}

}  // namespace

void matmul_few_rows_cpu(const Tensor& y, const Tensor& x, std::span<const Tensor> parts) {
  int64_t blocks = 0;
  for (const Tensor& w : parts) blocks += dot_blocks(w.rows());
  parallel_for(
      blocks,
      [&](int64_t b) {
        int64_t column = 0;
        for (const Tensor& w : parts) {
          int64_t own = dot_blocks(w.rows());
          if (b < own) {
            Tensor columns = y.col_range(column, w.rows());
            dot_block(columns, x, w, 1, 0, b * kDotRows, std::min(kDotRows, w.rows() - b * kDotRows));
            return;
          }
          b -= own;
          column += w.rows();
        }
      },
      dot_chunk(x.cols()));
}

void matmul_nt_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta, bool use_bf16) {
  int64_t K = x.cols();
  if (x.rows() <= kFewRows) {
    int64_t N = y.cols();
    parallel_for(
        dot_blocks(N), [&](int64_t b) { dot_block(y, x, w, alpha, beta, b * kDotRows, std::min(kDotRows, N - b * kDotRows)); },
        dot_chunk(K));
    return;
  }
  bool narrow = multiplies_in_bf16(w, alpha, beta, use_bf16);
  for_tiles(y.rows(), y.cols(), [&](int64_t m0, int64_t m, int64_t n0, int64_t n) {
    if (narrow && library_tile(w.dtype, tile_of(y, m0, m, n0, n), x.row_range(m0, m), w.row_range(n0, n), true, beta == 1)) return;
    F32Block b = widen(w, n0, n, 0, K);
    sgemm_tile(false, true, m, n, K, alpha, x.f32() + m0 * x.row_stride, x.row_stride, b.data, b.stride, beta,
               y.f32() + m0 * y.row_stride + n0, y.row_stride);
  });
}

void matmul_nn_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta, bool use_bf16) {
  int64_t K = x.cols();
  bool narrow = multiplies_in_bf16(w, alpha, beta, use_bf16);
  for_tiles(y.rows(), y.cols(), [&](int64_t m0, int64_t m, int64_t n0, int64_t n) {
    if (narrow && library_tile(w.dtype, tile_of(y, m0, m, n0, n), x.row_range(m0, m), w.col_range(n0, n), false, beta == 1)) return;
    F32Block b = widen(w, 0, K, n0, n);
    sgemm_tile(false, false, m, n, K, alpha, x.f32() + m0 * x.row_stride, x.row_stride, b.data, b.stride, beta,
               y.f32() + m0 * y.row_stride + n0, y.row_stride);
  });
}

void matmul_tn_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta) {
  int64_t K = x.rows();
  for_tiles(y.rows(), y.cols(), [&](int64_t m0, int64_t m, int64_t n0, int64_t n) {
    sgemm_tile(true, false, m, n, K, alpha, x.f32() + m0, x.row_stride, w.f32() + n0, w.row_stride, beta, y.f32() + m0 * y.row_stride + n0,
               y.row_stride);
  });
}

}  // namespace loraine
