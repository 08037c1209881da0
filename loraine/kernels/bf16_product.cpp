// Pairs of bf16 along K are multiplied and added up by one instruction (vdpbf16ps). x is read where it lies, a pair at a time; a piece of w
// that fits into the second cache is laid out in pairs, strip of columns by strip, and met by a few rows of x after the other.
#include "loraine/kernels/bf16_product.h"

#include <dnnl.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/kernels/matmul.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // gcc 12's own intrinsics
#endif

#define LORAINE_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define LORAINE_BF16_INLINE LORAINE_BF16 __attribute__((always_inline)) inline

namespace loraine {
namespace {

constexpr int64_t kLanes = 16, kMostVectors = 4;
constexpr int64_t kAhead = 16;  // rows of w that are asked for before they are laid out
constexpr int64_t kMostStrips = kTileColumns / kLanes;
constexpr int64_t kMostDepth = 1024;  // of a piece of K, elements
constexpr int64_t kRowBlock = 48;     // a multiple of the rows of every register block

__mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>(n >= kLanes ? 0xffff : (1 << n) - 1); }
__mmask32 first_halves(int64_t n) { return static_cast<__mmask32>(n >= 32 ? 0xffffffffu : (1u << n) - 1); }

int64_t whole_vectors(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Memory of this thread that grows.
template <int kUse>
void* room(int64_t bytes) {
  thread_local Buffer buffer;
  if (buffer.bytes() < static_cast<size_t>(bytes)) buffer = Buffer(static_cast<size_t>(bytes));
  return buffer.data();
}

// Rows [k, K) of w [K, ·], columns [0, n): out [pairs, width] gets two rows side by side; what is outside is zero. width: a multiple of 16.
LORAINE_BF16 void pair_rows(uint32_t* out, int64_t width, const uint16_t* w, int64_t stride, int64_t K, int64_t n) {
  alignas(64) static const uint16_t kLow[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i low = _mm512_load_si512(kLow), high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  for (int64_t k = 0; k < K; k += 2, out += width) {
    const uint16_t *even = w + k * stride, *odd = k + 1 < K ? even + stride : even;
    const int64_t ahead = kAhead * stride;
    for (int64_t c = 0; c < width; c += 32) {
      if (k + kAhead + 1 < K) {
        __builtin_prefetch(even + ahead + c);
        __builtin_prefetch(odd + ahead + c);
      }
      const __mmask32 mask = first_halves(std::max<int64_t>(n - c, 0));
      const __m512i a = _mm512_maskz_loadu_epi16(mask, even + c), b = _mm512_maskz_loadu_epi16(k + 1 < K ? mask : 0, odd + c);
      _mm512_storeu_si512(out + c, _mm512_permutex2var_epi16(a, low, b));
      if (c + kLanes < width) _mm512_storeu_si512(out + c + kLanes, _mm512_permutex2var_epi16(a, high, b));
    }
  }
}

// 16 rows of 16 pairs each, turned: out row p holds pair p of every row.
LORAINE_BF16_INLINE void turn(uint32_t* out, int64_t width, __m512i (&r)[16], int64_t pairs) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {  // r[i + 4·g]: in lane l, pair 4·l + i of rows 4·g to 4·g + 3
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 8] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
  }
  for (int i = 0; i < 16; ++i)
    if (i < pairs) _mm512_storeu_si512(out + i * width, r[i]);
}

// The same of a transposed w [·, K]: its rows [0, n) become the columns.
LORAINE_BF16 void pair_columns(uint32_t* out, int64_t width, const uint16_t* w, int64_t stride, int64_t K, int64_t n) {
  for (int64_t c = 0; c < width; c += kLanes)
    for (int64_t k = 0; k < K; k += 32) {
      const __mmask32 mask = first_halves(K - k);
      __m512i r[16];
      for (int i = 0; i < 16; ++i) r[i] = c + i < n ? _mm512_maskz_loadu_epi16(mask, w + (c + i) * stride + k) : _mm512_setzero_si512();
      turn(out + k / 2 * width + c, width, r, (K - k + 1) / 2);
    }
}

struct Rows {  // of x: pair p of row r begins at data + r · row + p · pair
  const uint16_t* data;
  int64_t row, pair;
};

struct Strip {        // a strip of columns and a piece of K
  const uint32_t* w;  // [pairs, vectors · 16]
  int64_t pairs;
  bool odd;     // the last pair of x has one element only
  float* sums;  // [m, vectors · 16]: of the pieces before, and for the next one
  bool first, last;
  char* y;  // where it ends up: F32 or BF16
  bool y_f32, add;
  int64_t y_stride, n;
  float alpha;
};

LORAINE_BF16_INLINE void store_f32(float* y, __m512 v, __mmask16 mask, bool add) {
  if (add) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, y));
  _mm512_mask_storeu_ps(y, mask, v);
}
LORAINE_BF16_INLINE void store_bf16(uint16_t* y, __m512 v, __mmask16 mask, bool add) {
  if (add) v = _mm512_add_ps(v, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, y)), 16)));
  _mm256_mask_storeu_epi16(y, mask, (__m256i)_mm512_cvtneps_pbh(v));
}

// kRows rows from `m` on.
template <int kRows, int kVectors>
LORAINE_BF16 void rows_of_strip(const Strip& s, const Rows& x, int64_t m) {
  constexpr int64_t width = kVectors * kLanes;
  __m512 sum[kRows][kVectors];
  float* sums = s.sums + m * width;
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_setzero_ps();
  if (!s.first)
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_loadu_ps(sums + r * width + v * kLanes);
  const uint16_t* from = x.data + m * x.row;
  const uint32_t* w = s.w;
  const int64_t row = x.row, pair = x.pair, whole = s.odd ? s.pairs - 1 : s.pairs;
  for (int64_t p = 0; p < whole; ++p, from += pair, w += width) {
    __m512i b[kVectors];
    for (int v = 0; v < kVectors; ++v) b[v] = _mm512_loadu_si512(w + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      int32_t two;
      __builtin_memcpy(&two, from + r * row, sizeof two);
      const __m512i a = _mm512_set1_epi32(two);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], (__m512bh)a, (__m512bh)b[v]);
    }
  }
  if (s.odd)
    for (int r = 0; r < kRows; ++r) {
      const __m512i a = _mm512_set1_epi32(from[r * row]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], (__m512bh)a, (__m512bh)_mm512_loadu_si512(w + v * kLanes));
    }
  if (!s.last) {
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(sums + r * width + v * kLanes, sum[r][v]);
    return;
  }
  const __m512 alpha = _mm512_set1_ps(s.alpha);
  for (int v = 0; v < kVectors; ++v) {
    const __mmask16 mask = first_lanes(s.n - v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const __m512 out = _mm512_mul_ps(alpha, sum[r][v]);
      const int64_t at = (m + r) * s.y_stride + v * kLanes;
      if (s.y_f32) store_f32(reinterpret_cast<float*>(s.y) + at, out, mask, s.add);
      else store_bf16(reinterpret_cast<uint16_t*>(s.y) + at, out, mask, s.add);
    }
  }
}

// Rows [m, M): as many at a time as there are registers for.
template <int kRows, int kVectors>
void strip_product(const Strip& s, const Rows& x, int64_t m, int64_t M) {
  for (; m + kRows <= M; m += kRows) rows_of_strip<kRows, kVectors>(s, x, m);
  for (; m + 4 <= M; m += 4) rows_of_strip<4, kVectors>(s, x, m);
  for (; m < M; ++m) rows_of_strip<1, kVectors>(s, x, m);
}

void strip_product(const Strip& s, const Rows& x, int64_t m, int64_t M, int64_t vectors) {
  switch (vectors) {
    case 1: return strip_product<16, 1>(s, x, m, M);
    case 2: return strip_product<12, 2>(s, x, m, M);
    case 3: return strip_product<8, 3>(s, x, m, M);
    default: return strip_product<6, 4>(s, x, m, M);
  }
}

// Vectors of a strip of the columns that are left: 48 columns, or 64 where those leave nothing over.
int64_t strip_vectors(int64_t n) {
  const int64_t vectors = (n + kLanes - 1) / kLanes;
  if (vectors <= kMostVectors) return vectors;
  return vectors % 3 == 0 || vectors % 4 != 0 ? 3 : 4;
}

// One tile: at most kTileColumns columns.
void tile_product(const Tensor& y, const Tensor& x, const Tensor& w, bool x_t, bool w_t, float alpha, bool add) {
  const int64_t M = y.rows(), N = y.cols(), K = x_t ? x.rows() : x.cols();
  const auto *x_data = static_cast<const uint16_t*>(x.data), *w_data = static_cast<const uint16_t*>(w.data);
  const int64_t pieces = std::max<int64_t>(1, (K + kMostDepth - 1) / kMostDepth), depth = ((K + pieces - 1) / pieces + 2) / 2 * 2;
  const int64_t columns = whole_vectors(N), turned_width = whole_vectors(M);
  auto* turned = x_t ? static_cast<uint32_t*>(room<0>(depth / 2 * turned_width * 4)) : nullptr;
  auto* packed = static_cast<uint32_t*>(room<1>(depth / 2 * columns * 4));
  const bool y_f32 = y.dtype == Dtype::F32, apart = pieces > 1 && !y_f32;  // an f32 y takes the sum of each piece itself
  auto* sums = apart ? static_cast<float*>(room<2>(M * columns * 4)) : nullptr;
  for (int64_t k = 0; k < K || k == 0; k += depth) {
    const int64_t deep = std::min(depth, K - k), pairs = (deep + 1) / 2;
    const bool last = k + depth >= K;
    Strip strips[kMostStrips];
    int64_t vectors[kMostStrips], count = 0;
    for (int64_t n = 0; n < N; ++count) {
      vectors[count] = strip_vectors(N - n);
      const int64_t width = vectors[count] * kLanes, own = std::min(width, N - n);
      uint32_t* w_pairs = packed + n * pairs;
      if (w_t) pair_columns(w_pairs, width, w_data + n * w.row_stride + k, w.row_stride, deep, own);
      else pair_rows(w_pairs, width, w_data + k * w.row_stride + n, w.row_stride, deep, own);
      strips[count] = {w_pairs,
                       pairs,
                       !x_t && deep % 2 == 1,
                       apart ? sums + n * M : nullptr,
                       !apart || k == 0,
                       !apart || last,
                       static_cast<char*>(y.data) + n * static_cast<int64_t>(size_of(y.dtype)),
                       y_f32,
                       add || (y_f32 && k > 0),
                       y.row_stride,
                       own,
                       alpha};
      n += width;
    }
    Rows rows{x_data + k, x.row_stride, 2};
    if (x_t) {
      pair_rows(turned, turned_width, x_data + k * x.row_stride, x.row_stride, deep, M);
      rows = {reinterpret_cast<const uint16_t*>(turned), 2, 2 * turned_width};
    }
    for (int64_t m = 0; m < M; m += kRowBlock)  // a few rows stay in the nearest cache while they meet every strip
      for (int64_t i = 0; i < count; ++i) strip_product(strips[i], rows, m, std::min(M, m + kRowBlock), vectors[i]);
  }
}

}  // namespace

bool has_bf16_kernel() {
  static const bool has = dnnl_get_effective_cpu_isa() == dnnl_cpu_isa_avx512_core_bf16;
  return has;
}

void bf16_product(const Tensor& y, const Tensor& x, const Tensor& w, bool x_t, bool w_t, float alpha, bool add) {
  for (int64_t n = kTileColumns; n < y.cols(); n += kTileColumns) {  // more than a tile has
    const int64_t own = std::min(kTileColumns, y.cols() - n);
    tile_product(y.col_range(n, own), x, w_t ? w.row_range(n, own) : w.col_range(n, own), x_t, w_t, alpha, add);
  }
  const int64_t first = std::min(kTileColumns, y.cols());
  tile_product(y.col_range(0, first), x, w_t ? w.row_range(0, first) : w.col_range(0, first), x_t, w_t, alpha, add);
}
}  // namespace loraine
#else

namespace loraine {

bool has_bf16_kernel() { return false; }
void bf16_product(const Tensor&, const Tensor&, const Tensor&, bool, bool, float, bool) {
  throw Error(ErrorKind::internal, "bf16_product: this processor has no AVX-512 BF16");
}

}  // namespace loraine
#endif
