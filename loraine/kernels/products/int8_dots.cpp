// Tiles of a few rows of the weight against one or two of activations, compiled once per instruction set by Highway's foreach_target. Bytes
// are widened to 16 bits, whose products are added up by pairs in 32.
#include "loraine/kernels/products/int8_dots.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/products/int8_dots.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "loraine/kernels/base/lines_ahead.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

constexpr int64_t kWeights = 4;  // rows of the weight in a tile; past the end the last one again, whose sum is dropped

#if HWY_TARGET == HWY_SCALAR
template <int64_t kX>
void dots_tile(int32_t* sums, int64_t sums_stride, const int8_t* const* row, const LinesAhead<kWeights>*, int64_t left, const int16_t* x,
               int64_t K) {
  for (int64_t j = 0; j < kX; ++j)
    for (int64_t i = 0; i < kWeights && i < left; ++i) {
      int32_t sum = 0;
      for (int64_t k = 0; k < K; ++k) sum += row[i][k] * x[j * K + k];
      sums[j * sums_stride + i] = sum;
    }
}
#else
namespace hn = hwy::HWY_NAMESPACE;

template <int64_t kX>
HWY_INLINE void dots_tile(int32_t* sums, int64_t sums_stride, const int8_t* const* row, const LinesAhead<kWeights>* next, int64_t left,
                          const int16_t* x, int64_t K) {
  const hn::ScalableTag<int16_t> d16;
  const hn::ScalableTag<int32_t> d32;
  const hn::Rebind<int8_t, decltype(d16)> d8;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d16));
  hn::Vec<decltype(d32)> s[kWeights][kX], more[kWeights][kX];  // the second for what an instruction set adds up apart
  for (int64_t i = 0; i < kWeights; ++i)
    for (int64_t j = 0; j < kX; ++j) s[i][j] = more[i][j] = hn::Zero(d32);
  int64_t k = 0;
  for (; k + lanes <= K; k += lanes) {
    if (next && k % 64 == 0) next->ask(k);
    hn::Vec<decltype(d16)> w[kWeights];
    for (int64_t i = 0; i < kWeights; ++i) w[i] = hn::PromoteTo(d16, hn::LoadU(d8, row[i] + k));
    for (int64_t j = 0; j < kX; ++j) {
      const auto xk = hn::LoadU(d16, x + j * K + k);
      for (int64_t i = 0; i < kWeights; ++i) s[i][j] = hn::ReorderWidenMulAccumulate(d32, w[i], xk, s[i][j], more[i][j]);
    }
  }
  for (int64_t i = 0; i < kWeights && i < left; ++i)
    for (int64_t j = 0; j < kX; ++j) {
      int32_t sum = hn::GetLane(hn::SumOfLanes(d32, hn::Add(s[i][j], more[i][j])));
      for (int64_t t = k; t < K; ++t) sum += row[i][t] * x[j * K + t];
      sums[j * sums_stride + i] = sum;
    }
}
#endif

void Int8Dots(int32_t* sums, int64_t sums_stride, const Tensor& w, const int16_t* x, int64_t x_rows) {
  const int64_t K = w.cols();
  for (int64_t r = 0; r < w.rows(); r += kWeights) {
    const int64_t left = w.rows() - r;
    const LinesAhead<kWeights> next(static_cast<const int8_t*>(w.data) + r * w.row_stride, w.row_stride, K);
    const int8_t* row[kWeights];
    for (int64_t i = 0; i < kWeights; ++i) row[i] = static_cast<const int8_t*>(w.data) + (r + std::min(i, left - 1)) * w.row_stride;
    int64_t m = 0;  // the first rows of x ask for the next rows of w
    for (; m + 2 <= x_rows; m += 2) dots_tile<2>(sums + m * sums_stride + r, sums_stride, row, m ? nullptr : &next, left, x + m * K, K);
    if (m < x_rows) dots_tile<1>(sums + m * sums_stride + r, sums_stride, row, m ? nullptr : &next, left, x + m * K, K);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(Int8Dots);

void int8_dots(int32_t* sums, int64_t sums_stride, const Tensor& w, const int16_t* x, int64_t x_rows) {
  HWY_DYNAMIC_DISPATCH(Int8Dots)(sums, sums_stride, w, x, x_rows);
}

}  // namespace loraine
#endif
