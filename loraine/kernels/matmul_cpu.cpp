// Products on the CPU: y is cut into tiles fixed by its shape, each computed by one thread over the whole of K.
#include <algorithm>
#include <bit>
#include <type_traits>

#include "loraine/core/tensor.h"
#include "loraine/kernels/parallel.h"
#include "loraine/kernels/sgemm.h"
#include "loraine/kernels/simd.h"

namespace loraine {
namespace {

constexpr int64_t kTileM = 256, kTileN = 192;  // multiples of oneDNN's register blocks (8 and 48)

const char* at(const Tensor& t, int64_t row, int64_t col) {
  return static_cast<const char*>(t.data) + (row * t.row_stride + col) * static_cast<int64_t>(size_of(t.dtype));
}

LORAINE_CLONES void widen_bf16(float* out, const bf16* in, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = std::bit_cast<float>(static_cast<uint32_t>(in[i]) << 16);
}

void widen_row(float* out, const Tensor& w, int64_t row, int64_t col, int64_t n) {
  if (w.dtype == Dtype::BF16) widen_bf16(out, static_cast<const bf16*>(w.data) + row * w.row_stride + col, n);
  else convert(out, Dtype::F32, at(w, row, col), w.dtype, n);
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
  for (int64_t r = 0; r < rows; ++r) widen_row(out + r * cols, w, row + r, col, cols);
  return {out, cols};
}

// Decode: few rows of x, so the product runs at the speed of reading w. y[m] = w_row · x[m] for each of M <= kFewRows rows, w read once.
constexpr int64_t kFewRows = 4, kDotRows = 32;

template <class Element>
__attribute__((always_inline)) inline float element(Element e) {
  if constexpr (std::is_same_v<Element, float>) return e;
  else return std::bit_cast<float>(static_cast<uint32_t>(e) << 16);
}

// Four rows of w at once against one row of x: four independent chains of sums.
template <class Element>
__attribute__((always_inline)) inline void dot_four(float* out, const Element* w, int64_t stride, const float* x, int64_t K) {
  const Element *w0 = w, *w1 = w + stride, *w2 = w1 + stride, *w3 = w2 + stride;
  float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
  for (int64_t k = 0; k < K; ++k) {
    float xk = x[k];
    s0 += element(w0[k]) * xk;
    s1 += element(w1[k]) * xk;
    s2 += element(w2[k]) * xk;
    s3 += element(w3[k]) * xk;
  }
  out[0] = s0, out[1] = s1, out[2] = s2, out[3] = s3;
}

template <class Element>
__attribute__((always_inline)) inline float dot_one(const Element* w, const float* x, int64_t K) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t k = 0; k < K; ++k) sum += element(w[k]) * x[k];
  return sum;
}

LORAINE_CLONES void dot_four_f32(float* out, const float* w, int64_t stride, const float* x, int64_t K) { dot_four(out, w, stride, x, K); }
LORAINE_CLONES void dot_four_bf16(float* out, const bf16* w, int64_t stride, const float* x, int64_t K) { dot_four(out, w, stride, x, K); }
LORAINE_CLONES float dot_one_f32(const float* w, const float* x, int64_t K) { return dot_one(w, x, K); }
LORAINE_CLONES float dot_one_bf16(const bf16* w, const float* x, int64_t K) { return dot_one(w, x, K); }

// y[:, n0 .. n0 + n) for the few rows.
void dot_block(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta, int64_t n0, int64_t n) {
  int64_t K = x.cols();
  for (int64_t j = 0; j < n; j += 4) {
    int64_t rows = std::min<int64_t>(4, n - j);
    for (int64_t m = 0; m < x.rows(); ++m) {
      const float* xm = x.f32() + m * x.row_stride;
      float sums[4];
      if (w.dtype == Dtype::F32) {
        const float* first = w.f32() + (n0 + j) * w.row_stride;
        if (rows == 4) dot_four_f32(sums, first, w.row_stride, xm, K);
        else
          for (int64_t r = 0; r < rows; ++r) sums[r] = dot_one_f32(first + r * w.row_stride, xm, K);
      } else {
        const bf16* first = static_cast<const bf16*>(w.data) + (n0 + j) * w.row_stride;
        if (rows == 4) dot_four_bf16(sums, first, w.row_stride, xm, K);
        else
          for (int64_t r = 0; r < rows; ++r) sums[r] = dot_one_bf16(first + r * w.row_stride, xm, K);
      }
      float* out = y.f32() + m * y.row_stride + n0 + j;
      for (int64_t r = 0; r < rows; ++r) out[r] = alpha * sums[r] + (beta == 0 ? 0.0f : beta * out[r]);
    }
  }
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
  if (x.rows() <= kFewRows && w.dtype != Dtype::F16) {
    int64_t N = y.cols(), chunk = std::max<int64_t>(1, 32768 / (kDotRows * K + 1));  // small products stay on one thread
    parallel_for((N + kDotRows - 1) / kDotRows,
                 [&](int64_t b) { dot_block(y, x, w, alpha, beta, b * kDotRows, std::min(kDotRows, N - b * kDotRows)); }, chunk);
    return;
  }
  for_tiles(y.rows(), y.cols(), [&](int64_t m0, int64_t m, int64_t n0, int64_t n) {
    F32Block b = widen(w, n0, n, 0, K);
    sgemm_tile(false, true, m, n, K, alpha, x.f32() + m0 * x.row_stride, x.row_stride, b.data, b.stride, beta,
               y.f32() + m0 * y.row_stride + n0, y.row_stride);
  });
}

void matmul_nn_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta, bool) {
  int64_t K = x.cols();
  for_tiles(y.rows(), y.cols(), [&](int64_t m0, int64_t m, int64_t n0, int64_t n) {
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
