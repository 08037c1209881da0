// Tiles of a few rows of the weight against a few of activations, held in registers; compiled once per instruction set by Highway's
// foreach_target. The order of each sum is that of row_dots.cpp: dot_tiles_test.cpp compares the bits.
#include "loraine/kernels/products/dot_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/products/dot_tiles.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <type_traits>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/elements-inl.h"
#include "loraine/kernels/base/lines_ahead.h"
#include "loraine/kernels/products/packed_rows.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

// Rows of the weight in a tile, and most rows of activations: what fits into 32 registers, or 16.
#if HWY_TARGET <= HWY_AVX3
constexpr int64_t kWeights = 4, kRows = 4, kPairWeights = 2, kPairRows = 4;
#else
constexpr int64_t kWeights = 2, kRows = 4, kPairWeights = 2, kPairRows = 2;
#endif

// The rows of a tile; past the end the last one is read again and its sum dropped. Asks for the next tile's lines, of which every group of
// rows of x takes its share, so that they are under way while this one is multiplied.
template <class T, int64_t kW>
struct TileRows {
  static constexpr int64_t kSize = sizeof(T);
  const T* row[kW];
  int64_t left, every, turn;
  LinesAhead<kW> next;
  TileRows(const void* weight, int64_t stride, int64_t r, int64_t rows, int64_t first, int64_t n, int64_t group, int64_t groups)
      : left(rows - r), every(groups), turn(group), next(static_cast<const T*>(weight) + r * stride + first, kSize * stride, kSize * n) {
    for (int64_t i = 0; i < kW; ++i) row[i] = static_cast<const T*>(weight) + (r + std::min(i, left - 1)) * stride + first;
  }
  HWY_INLINE void ask_for_next(int64_t k) {
    if (turn == 0) {
      next.ask(kSize * k);
      turn = every;
    }
    --turn;
  }
};

template <class E, int64_t kX>
HWY_INLINE void tile(float* sums, int64_t sums_stride, TileRows<typename E::T, kWeights> w, const float* x, int64_t x_stride, int64_t K) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t line = std::max<int64_t>(64 / static_cast<int64_t>(sizeof(typename E::T)), lanes);
  V s[kWeights][kX];
  for (auto& of_row : s)
    for (V& sum : of_row) sum = hn::Zero(d);
  int64_t k = 0;
  auto step = [&] {
    V wk[kWeights];
    for (int64_t i = 0; i < kWeights; ++i) wk[i] = E::load(d, w.row[i] + k);
    for (int64_t j = 0; j < kX; ++j) {
      const V xk = hn::LoadU(d, x + j * x_stride + k);
      for (int64_t i = 0; i < kWeights; ++i) s[i][j] = hn::MulAdd(wk[i], xk, s[i][j]);
    }
    k += lanes;
  };
  while (k + line <= K) {
    w.ask_for_next(k);
    const int64_t end = k + line;
    while (k < end) step();
  }
  while (k + lanes <= K) step();
  for (int64_t i = 0; i < kWeights && i < w.left; ++i)
    for (int64_t j = 0; j < kX; ++j) {
      float sum = hn::GetLane(hn::SumOfLanes(d, s[i][j]));
      for (int64_t t = k; t < K; ++t) sum += E::one(w.row[i][t]) * x[j * x_stride + t];
      sums[j * sums_stride + i] = sum;
    }
}

// Calls body(first row, number of rows as a constant, group, groups) for the rows of x: kMost at a time, then half as many, and so on.
template <int64_t kMost, class Body>
HWY_INLINE void for_row_groups(int64_t m, int64_t x_rows, int64_t group, int64_t groups, Body&& body) {
  for (; m + kMost <= x_rows; m += kMost) body(m, std::integral_constant<int64_t, kMost>(), group++, groups);
  if constexpr (kMost > 1)
    if (m < x_rows) for_row_groups<kMost / 2>(m, x_rows, group, groups, body);
}
int64_t row_groups(int64_t x_rows, int64_t most) {
  int64_t count = x_rows / most;
  for (int64_t rest = x_rows % most; rest; rest &= rest - 1) ++count;
  return count;
}

template <class E>
HWY_INLINE void tiles(float* sums, int64_t sums_stride, const void* w, int64_t stride, int64_t rows, const float* x, int64_t x_stride,
                      int64_t x_rows, int64_t K) {
  const int64_t all = row_groups(x_rows, kRows);
  for (int64_t r = 0; r < rows; r += kWeights)
    for_row_groups<kRows>(0, x_rows, 0, all, [&](int64_t m, auto count, int64_t group, int64_t groups) {
      tile<E, decltype(count)::value>(sums + m * sums_stride + r, sums_stride, {w, stride, r, rows, 0, K, group, groups}, x + m * x_stride,
                                      x_stride, K);
    });
}

#if HWY_TARGET == HWY_SCALAR
struct TileBf16 {
  using T = uint16_t;
  static HWY_INLINE V load(D d, const T* p) { return widen_vector(d, hn::LoadU(D16(), p)); }
  static HWY_INLINE float one(T x) { return bf16_to_f32(x); }
};
HWY_INLINE void pair_tiles(float* sums, int64_t sums_stride, const void* w, int64_t stride, int64_t rows, const float* x, int64_t x_stride,
                           int64_t x_rows, int64_t K, float*) {
  tiles<TileBf16>(sums, sums_stride, w, stride, rows, x, x_stride, x_rows, K);
}
#else
// bf16 weights two to a word, as in row_dots: apart [kX rows, apart_stride] holds the activations laid apart, even before odd.
template <int64_t kX>
HWY_INLINE void pair_tile(float* sums, int64_t sums_stride, TileRows<uint16_t, kPairWeights> w, const float* apart, const float* x,
                          int64_t x_stride, int64_t n, int64_t whole, int64_t apart_stride) {
  const D d;
  const hn::Repartition<uint32_t, D> d32;
  const auto odd_half = hn::Set(d32, 0xffff0000u);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), step = 2 * lanes;
  V e[kPairWeights][kX], o[kPairWeights][kX];
  for (int64_t i = 0; i < kPairWeights; ++i)
    for (int64_t j = 0; j < kX; ++j) e[i][j] = o[i][j] = hn::Zero(d);
  for (int64_t k = 0; k < whole; k += step) {
    if (k % 32 == 0) w.ask_for_next(k);
    V even[kPairWeights], odd[kPairWeights];
    for (int64_t i = 0; i < kPairWeights; ++i) {
      const auto pair = hn::BitCast(d32, hn::LoadU(hn::Repartition<uint16_t, D>(), w.row[i] + k));
      even[i] = hn::BitCast(d, hn::ShiftLeft<16>(pair));
      odd[i] = hn::BitCast(d, hn::And(pair, odd_half));
    }
    for (int64_t j = 0; j < kX; ++j) {
      const float* xk = apart + j * apart_stride + k;
      const V x_even = hn::LoadU(d, xk), x_odd = hn::LoadU(d, xk + lanes);
      for (int64_t i = 0; i < kPairWeights; ++i) {
        e[i][j] = hn::MulAdd(even[i], x_even, e[i][j]);
        o[i][j] = hn::MulAdd(odd[i], x_odd, o[i][j]);
      }
    }
  }
  for (int64_t i = 0; i < kPairWeights && i < w.left; ++i)
    for (int64_t j = 0; j < kX; ++j) {
      float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(e[i][j], o[i][j])));
      for (int64_t k = whole; k < n; ++k) sum += bf16_to_f32(w.row[i][k]) * x[j * x_stride + k];
      sums[j * sums_stride + i] += sum;
    }
}

HWY_INLINE void pair_tiles(float* sums, int64_t sums_stride, const void* weight, int64_t stride, int64_t rows, const float* x,
                           int64_t x_stride, int64_t x_rows, int64_t K, float* apart) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), step = 2 * lanes;
  constexpr int64_t kPiece = 4096;
  for (int64_t m = 0; m < x_rows; ++m) std::fill_n(sums + m * sums_stride, rows, 0.0f);
  for (int64_t first = 0; first < K; first += kPiece) {
    const int64_t n = std::min(kPiece, K - first), whole = n / step * step;
    for (int64_t m = 0; m < x_rows; ++m)
      for (int64_t k = 0; k < whole; k += step) {
        V even, odd;
        hn::LoadInterleaved2(d, x + m * x_stride + first + k, even, odd);
        hn::StoreU(even, d, apart + m * whole + k);
        hn::StoreU(odd, d, apart + m * whole + k + lanes);
      }
    const int64_t all = row_groups(x_rows, kPairRows);
    for (int64_t r = 0; r < rows; r += kPairWeights)
      for_row_groups<kPairRows>(0, x_rows, 0, all, [&](int64_t m, auto count, int64_t group, int64_t groups) {
        pair_tile<decltype(count)::value>(sums + m * sums_stride + r, sums_stride, {weight, stride, r, rows, first, n, group, groups},
                                          apart + m * whole, x + m * x_stride + first, x_stride, n, whole, whole);
      });
  }
}
#endif

void DotTiles(float* sums, int64_t sums_stride, const void* w, Dtype dtype, int64_t stride, int64_t rows, const float* x, int64_t x_stride,
              int64_t x_rows, int64_t K, float* room) {
  if (dtype == Dtype::F32) tiles<F32Elements>(sums, sums_stride, w, stride, rows, x, x_stride, x_rows, K);
  else if (dtype == Dtype::BF16) pair_tiles(sums, sums_stride, w, stride, rows, x, x_stride, x_rows, K, room);
  else tiles<F16Elements>(sums, sums_stride, w, stride, rows, x, x_stride, x_rows, K);
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(DotTiles);

namespace {
// Packed rows, a few unpacked at a time.
void packed_tiles(float* sums, int64_t sums_stride, const Tensor& w, const float* x, int64_t x_stride, int64_t x_rows) {
  constexpr int64_t kUnpacked = 4;
  thread_local Buffer room;
  const int64_t rows = w.rows(), K = w.cols();
  const size_t bytes = static_cast<size_t>(kUnpacked * K) * sizeof(float);
  if (room.bytes() < bytes) room = Buffer(bytes);
  float* wide = static_cast<float*>(room.data());
  for (int64_t r = 0; r < rows; r += kUnpacked) {
    const int64_t n = std::min(kUnpacked, rows - r);
    for (int64_t i = 0; i < n; ++i) unpack_row(wide + i * K, w.row_range(r + i, 1));
    HWY_DYNAMIC_DISPATCH(DotTiles)(sums + r, sums_stride, wide, Dtype::F32, K, n, x, x_stride, x_rows, K, nullptr);
  }
}
}  // namespace

void dot_tiles(float* sums, int64_t sums_stride, const Tensor& w, const float* x, int64_t x_stride, int64_t x_rows) {
  thread_local Buffer room;
  if (is_packed(w.dtype)) return packed_tiles(sums, sums_stride, w, x, x_stride, x_rows);
  const size_t bytes = w.dtype == Dtype::BF16 ? static_cast<size_t>(x_rows * std::min<int64_t>(w.cols(), 4096)) * sizeof(float) : 0;
  if (room.bytes() < bytes) room = Buffer(bytes);
  HWY_DYNAMIC_DISPATCH(DotTiles)
  (sums, sums_stride, w.data, w.dtype, w.row_stride, w.rows(), x, x_stride, x_rows, w.cols(), static_cast<float*>(room.data()));
}

}  // namespace loraine
#endif
