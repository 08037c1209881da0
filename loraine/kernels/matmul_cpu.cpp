// Products on the CPU: y is cut into tiles fixed by its shape, each computed by one thread over the whole of K.
#include <algorithm>
#include <memory>

#include "loraine/core/tensor.h"
#include "loraine/kernels/parallel.h"
#include "loraine/kernels/sgemm.h"

namespace loraine {
namespace {

constexpr int64_t kTileM = 256, kTileN = 192;  // multiples of oneDNN's register blocks (8 and 48)

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
  for (int64_t r = 0; r < rows; ++r) convert(out + r * cols, Dtype::F32, at(w, row + r, col), w.dtype, cols);
  return {out, cols};
}

// Calls tile(m0, m, n0, n) for every tile of an M × N result.
template <class Tile>
void for_tiles(int64_t M, int64_t N, Tile&& tile) {
  int64_t tiles_m = (M + kTileM - 1) / kTileM, tiles_n = (N + kTileN - 1) / kTileN;
  parallel_for(tiles_m * tiles_n, [&](int64_t i) {
    int64_t m0 = i % tiles_m * kTileM, n0 = i / tiles_m * kTileN;
    tile(m0, std::min(kTileM, M - m0), n0, std::min(kTileN, N - n0));
  });
}

}  // namespace

void matmul_nt_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta, bool) {
  int64_t K = x.cols();
  for_tiles(y.rows(), y.cols(), [&](int64_t m0, int64_t m, int64_t n0, int64_t n) {
    F32Block b = widen(w, n0, n, 0, K);
    sgemm_tile(false, true, m, n, K, alpha, x.f32() + m0 * x.row_stride, x.row_stride, b.data, b.stride, beta, y.f32() + m0 * y.row_stride + n0,
               y.row_stride);
  });
}

void matmul_nn_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta, bool) {
  int64_t K = x.cols();
  for_tiles(y.rows(), y.cols(), [&](int64_t m0, int64_t m, int64_t n0, int64_t n) {
    F32Block b = widen(w, 0, K, n0, n);
    sgemm_tile(false, false, m, n, K, alpha, x.f32() + m0 * x.row_stride, x.row_stride, b.data, b.stride, beta, y.f32() + m0 * y.row_stride + n0,
               y.row_stride);
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
