// Tiles of a few rows of the weight against a few of activations, held in registers; compiled once per instruction set by Highway's
// foreach_target. What is not f32 is widened once for all rows of activations, a strip of rows at a time that stays in the first cache. The
// order of each sum is that of row_dots.cpp: dot_tiles_test.cpp compares the bits.
#include "loraine/kernels/products/dot_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/products/dot_tiles.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <type_traits>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/elements-inl.h"
#include "loraine/kernels/base/lane_sums-inl.h"
#include "loraine/kernels/base/lines_ahead.h"
#include "loraine/kernels/products/packed_rows.h"
#include "loraine/kernels/products/row_dots.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

// Rows of the weight in a tile, and most rows of activations, of which bf16 weights need two sums for each pair: what fits into 32
// registers, or 16.
#if HWY_TARGET <= HWY_AVX3
constexpr int64_t kWeights = 4, kRows = 4, kPairRows = 2;
#else
constexpr int64_t kWeights = 3, kRows = 4, kPairRows = 2;
#endif
constexpr int64_t kStrip = 2 * kWeights;  // rows that are widened together

// What a tile multiplies: rows of the weight and of x as f32, elements [first, first + n) of K.
struct Operands {
  const float *w, *x;
  int64_t w_stride, x_stride, n;
  int64_t rows_left;  // of the weight; past the end the last one is read again and its sum dropped
  bool begins, ends;  // whether the sums begin here, and end
};

// kChains sums for each pair, of the vectors 0, kChains, 2 kChains, … and so on: `running` has them between pieces. kAsk: lines of the rows
// after these are asked for, so that they are under way while this tile is multiplied.
template <int64_t kX, int64_t kChains, bool kAsk>
HWY_INLINE void tile(float* sums, int64_t sums_stride, const Operands& t, float* running) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), step = kChains * lanes;
  const float* row[kWeights];
  for (int64_t i = 0; i < kWeights; ++i) row[i] = t.w + std::min(i, t.rows_left - 1) * t.w_stride;
  const LinesAhead<kWeights> next(t.w, 4 * t.w_stride, 4 * t.n);
  V s[kChains][kWeights][kX];
  for (int64_t c = 0, at = 0; c < kChains; ++c)
    for (int64_t i = 0; i < kWeights; ++i)
      for (int64_t j = 0; j < kX; ++j, at += lanes) s[c][i][j] = t.begins ? hn::Zero(d) : hn::LoadU(d, running + at);
  const int64_t whole = t.n / step * step;
  for (int64_t k = 0; k < whole; k += step) {
    if (kAsk && k % 16 == 0) next.ask(4 * k);
    for (int64_t c = 0; c < kChains; ++c) {
      V w[kWeights];
      for (int64_t i = 0; i < kWeights; ++i) w[i] = hn::LoadU(d, row[i] + k + c * lanes);
      for (int64_t j = 0; j < kX; ++j) {
        const V x = hn::LoadU(d, t.x + j * t.x_stride + k + c * lanes);
        for (int64_t i = 0; i < kWeights; ++i) s[c][i][j] = hn::MulAdd(w[i], x, s[c][i][j]);
      }
    }
  }
  for (int64_t c = 0; c < kChains; ++c) {
    const int64_t k = whole + c * lanes, rest = std::min(lanes, t.n - k);
    if (rest <= 0) continue;
    for (int64_t j = 0; j < kX; ++j)
      for (int64_t i = 0; i < kWeights; ++i)
        s[c][i][j] =
            hn::MulAdd(and_zeros<F32Elements>(row[i] + k, rest), and_zeros<F32Elements>(t.x + j * t.x_stride + k, rest), s[c][i][j]);
  }
  if (!t.ends) {
    for (int64_t c = 0, at = 0; c < kChains; ++c)
      for (int64_t i = 0; i < kWeights; ++i)
        for (int64_t j = 0; j < kX; ++j, at += lanes) hn::StoreU(s[c][i][j], d, running + at);
    return;
  }
  for (int64_t i = 0; i < kWeights && i < t.rows_left; ++i) {
    V four[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    for (int64_t j = 0; j < kX; ++j) {
      four[j] = s[0][i][j];
      for (int64_t c = 1; c < kChains; ++c) four[j] = hn::Add(four[j], s[c][i][j]);
    }
    float sum[4];
    four_lane_sums(four, sum);
    for (int64_t j = 0; j < kX; ++j) sums[j * sums_stride + i] = sum[j];
  }
}

// Calls body(first row, number of rows as a constant) for the rows of x: kMost at a time, and then those that are left.
template <int64_t kMost, class Body>
HWY_INLINE void for_row_groups(int64_t m, int64_t x_rows, Body&& body) {
  for (; m + kMost <= x_rows; m += kMost) body(m, std::integral_constant<int64_t, kMost>());
  if constexpr (kMost > 1)
    if (m < x_rows) for_row_groups<kMost - 1>(m, x_rows, body);
}

// Rows [r, r + rows) of the weight, at most kStrip of them, at elements [first, first + n) of w, against all rows of x.
template <int64_t kMost, int64_t kChains, bool kAsk>
HWY_INLINE void strip(float* sums, int64_t sums_stride, Operands t, int64_t rows, int64_t x_rows, float* running) {
  const int64_t room = kChains * kWeights * static_cast<int64_t>(hn::Lanes(D()));
  const Operands all = t;
  for_row_groups<kMost>(0, x_rows, [&](int64_t m, auto count) {
    for (int64_t r = 0; r < rows; r += kWeights) {
      t.w = all.w + r * all.w_stride, t.x = all.x + m * all.x_stride, t.rows_left = rows - r;
      float* mine = running + (m * (kStrip / kWeights) + r / kWeights * decltype(count)::value) * room;
      if (kAsk && m == 0) tile<decltype(count)::value, kChains, kAsk>(sums + m * sums_stride + r, sums_stride, t, mine);
      else tile<decltype(count)::value, kChains, false>(sums + m * sums_stride + r, sums_stride, t, mine);
    }
  });
}

void AddF32Strip(float* sums, int64_t sums_stride, const float* w, int64_t w_stride, int64_t rows, const float* x, int64_t x_stride,
                 int64_t x_rows, int64_t n, bool begins, bool ends, bool in_place, float* running) {
  const Operands t{w, x, w_stride, x_stride, n, rows, begins, ends};
  if (in_place) strip<kRows, 1, true>(sums, sums_stride, t, rows, x_rows, running);
  else strip<kRows, 1, false>(sums, sums_stride, t, rows, x_rows, running);
}

#if HWY_TARGET == HWY_SCALAR
// No pairs here, and none of these is called.
void LayApart(float* out, const float* in, int64_t n) { std::copy_n(in, n, out); }
void LayBf16Apart(float* out, const uint16_t* in, int64_t n) {
  for (int64_t k = 0; k < n; ++k) out[k] = bf16_to_f32(in[k]);
}
void AddPairStrip(float* sums, int64_t sums_stride, const float* w, int64_t w_stride, int64_t rows, const float* x, int64_t x_stride,
                  int64_t x_rows, int64_t n, bool begins, bool ends, float* running) {
  strip<kRows, 1, false>(sums, sums_stride, {w, x, w_stride, x_stride, n, rows, begins, ends}, rows, x_rows, running);
}
#else
// As row_dots has them: a vector of the even elements, then one of the odd ones. What is no whole pair of vectors stays as it is.
void LayApart(float* out, const float* in, int64_t n) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), whole = n / (2 * lanes) * (2 * lanes);
  for (int64_t k = 0; k < whole; k += 2 * lanes) {
    V even, odd;
    hn::LoadInterleaved2(d, in + k, even, odd);
    hn::StoreU(even, d, out + k);
    hn::StoreU(odd, d, out + k + lanes);
  }
  std::copy(in + whole, in + n, out + whole);
}
void LayBf16Apart(float* out, const uint16_t* in, int64_t n) {
  const D d;
  const hn::Repartition<uint32_t, D> d32;
  const auto odd_half = hn::Set(d32, 0xffff0000u);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), whole = n / (2 * lanes) * (2 * lanes);
  for (int64_t k = 0; k < whole; k += 2 * lanes) {
    const auto pair = hn::BitCast(d32, hn::LoadU(hn::Repartition<uint16_t, D>(), in + k));
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(pair)), d, out + k);
    hn::StoreU(hn::BitCast(d, hn::And(pair, odd_half)), d, out + k + lanes);
  }
  for (int64_t k = whole; k < n; ++k) out[k] = bf16_to_f32(in[k]);
}
void AddPairStrip(float* sums, int64_t sums_stride, const float* w, int64_t w_stride, int64_t rows, const float* x, int64_t x_stride,
                  int64_t x_rows, int64_t n, bool begins, bool ends, float* running) {
  strip<kPairRows, 2, false>(sums, sums_stride, {w, x, w_stride, x_stride, n, rows, begins, ends}, rows, x_rows, running);
}
#endif

bool HasPairs() { return HWY_TARGET != HWY_SCALAR; }
int64_t StripRows() { return kStrip; }
int64_t RunningFloats() { return 2 * kStrip * static_cast<int64_t>(hn::Lanes(D())); }

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(AddF32Strip);
HWY_EXPORT(AddPairStrip);
HWY_EXPORT(LayApart);
HWY_EXPORT(LayBf16Apart);
HWY_EXPORT(HasPairs);
HWY_EXPORT(StripRows);
HWY_EXPORT(RunningFloats);

namespace {

// Elements of a row that are worked on at a time, so that a strip and a few rows of x share 32 KiB; row_dots ends its sums of bf16 weights
// after kPairPiece.
constexpr int64_t kPiece = 768, kPairPiece = 4096;

// Memory of this thread, which grows to what was asked for.
float* room_for(int64_t floats) {
  thread_local Buffer room;
  const size_t bytes = static_cast<size_t>(floats) * sizeof(float);
  if (room.bytes() < bytes) room = Buffer(bytes);
  return static_cast<float*>(room.data());
}

// The bytes of the next strip, asked for while this one is multiplied.
void ask_for(const Tensor& rows) {
  constexpr size_t kMost = 4096;
  const char* at = static_cast<const char*>(rows.data);
  for (size_t byte = 0, end = std::min(rows.bytes(), kMost); byte < end; byte += 64) hwy::Prefetch(at + byte);
}

void f32_tiles(float* sums, int64_t sums_stride, const Tensor& w, const float* x, int64_t x_stride, int64_t x_rows) {
  const int64_t K = w.cols(), rows = HWY_DYNAMIC_DISPATCH(StripRows)();
  const bool in_place = w.dtype == Dtype::F32;
  float *running = room_for(x_rows * HWY_DYNAMIC_DISPATCH(RunningFloats)() + (in_place ? 0 : rows * kPiece)),
        *wide = running + x_rows * HWY_DYNAMIC_DISPATCH(RunningFloats)();
  for (int64_t r = 0; r < w.rows(); r += rows) {
    const int64_t count = std::min(rows, w.rows() - r);
    for (int64_t k = 0; k < K; k += kPiece) {
      const int64_t n = std::min(kPiece, K - k);
      const Tensor part = w.row_range(r, count).col_range(k, n);
      if (!in_place) {
        widen_rows(Tensor(wide, Dtype::F32, {count, n}), part);
        if (r + rows + count <= w.rows() && n == K) ask_for(w.row_range(r + rows, count));
      }
      HWY_DYNAMIC_DISPATCH(AddF32Strip)
      (sums + r, sums_stride, in_place ? part.f32() : wide, in_place ? w.row_stride : n, count, x + k, x_stride, x_rows, n, k == 0,
       k + n == K, in_place, running);
    }
  }
}

// Sums of each kPairPiece elements by themselves, added up.
void bf16_tiles(float* sums, int64_t sums_stride, const Tensor& w, const float* x, int64_t x_stride, int64_t x_rows) {
  const int64_t K = w.cols(), rows = HWY_DYNAMIC_DISPATCH(StripRows)(), most = std::min(K, kPairPiece),
                running_floats = HWY_DYNAMIC_DISPATCH(RunningFloats)();
  float *running = room_for(x_rows * (running_floats + most + rows) + rows * kPiece), *apart = running + x_rows * running_floats,
        *part = apart + x_rows * most, *wide = part + x_rows * rows;
  for (int64_t first = 0; first < K; first += kPairPiece) {
    const int64_t all = std::min(kPairPiece, K - first);
    for (int64_t m = 0; m < x_rows; ++m) HWY_DYNAMIC_DISPATCH(LayApart)(apart + m * all, x + m * x_stride + first, all);
    for (int64_t r = 0; r < w.rows(); r += rows) {
      const int64_t count = std::min(rows, w.rows() - r);
      for (int64_t k = 0; k < all; k += kPiece) {
        const int64_t n = std::min(kPiece, all - k);
        for (int64_t i = 0; i < count; ++i) HWY_DYNAMIC_DISPATCH(LayBf16Apart)
        (wide + i * n, static_cast<const uint16_t*>(w.row_range(r + i, 1).col_range(first + k, n).data), n);
        if (r + rows + count <= w.rows() && n == K) ask_for(w.row_range(r + rows, count));
        HWY_DYNAMIC_DISPATCH(AddPairStrip)(part, rows, wide, n, count, apart + k, all, x_rows, n, k == 0, k + n == all, running);
      }
      for (int64_t m = 0; m < x_rows; ++m)
        for (int64_t i = 0; i < count; ++i) {
          float& sum = sums[m * sums_stride + r + i];
          sum = (first == 0 ? 0.0f : sum) + part[m * rows + i];
        }
    }
  }
}

}  // namespace

void dot_tiles(float* sums, int64_t sums_stride, const Tensor& w, const float* x, int64_t x_stride, int64_t x_rows) {
  if (w.dtype == Dtype::BF16 && HWY_DYNAMIC_DISPATCH(HasPairs)()) bf16_tiles(sums, sums_stride, w, x, x_stride, x_rows);
  else f32_tiles(sums, sums_stride, w, x, x_stride, x_rows);
}

}  // namespace loraine
#endif
