// Rows of the weight against the row of activations, compiled once per instruction set by Highway's foreach_target.
#include "loraine/kernels/products/row_dots.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/products/row_dots.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "loraine/kernels/base/elements-inl.h"
#include "loraine/kernels/base/lane_sums-inl.h"
#include "loraine/kernels/base/lines_ahead.h"
#include "loraine/kernels/products/packed_rows.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
// These processors follow one long stream best: one row after the other, without being asked for what comes next.
constexpr int64_t kTogether = 1;
#else
// Four rows at a time, and the four after them are asked for.
constexpr int64_t kTogether = 4;
#endif

// Of each row in hand, where it begins; past the end the last row is read again and its sum dropped.
template <class T>
struct RowsInHand {
  static constexpr int64_t kSize = sizeof(T);
  const T* row[kTogether];
  int64_t left;
  LinesAhead<kTogether> next;
  RowsInHand(const void* weight, int64_t stride, int64_t r, int64_t rows, int64_t first, int64_t n)
      : left(rows - r), next(static_cast<const T*>(weight) + r * stride + first, kSize * stride, kSize * n) {
    for (int64_t i = 0; i < kTogether; ++i) row[i] = static_cast<const T*>(weight) + (r + std::min(i, left - 1)) * stride + first;
  }
  HWY_INLINE void ask_for_next(int64_t k) const {
    if (kTogether > 1) next.ask(kSize * k);
  }
};

template <class E>
HWY_INLINE void dots(float* sums, const void* weight, int64_t stride, int64_t rows, const float* x, int64_t K) {
  using T = typename E::T;
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t line = std::max<int64_t>(64 / static_cast<int64_t>(sizeof(T)), lanes);
  for (int64_t r = 0; r < rows; r += kTogether) {
    const RowsInHand<T> w(weight, stride, r, rows, 0, K);
    V s[kTogether];
    for (V& sum : s) sum = hn::Zero(d);
    int64_t k = 0;
    auto step = [&] {
      const V xk = hn::LoadU(d, x + k);
      for (int64_t i = 0; i < kTogether; ++i) s[i] = hn::MulAdd(E::load(d, w.row[i] + k), xk, s[i]);
      k += lanes;
    };
    while (k + line <= K) {
      w.ask_for_next(k);
      for (const int64_t end = k + line; k < end;) step();
    }
    while (k + lanes <= K) step();
    if (k < K) {
      const V xk = and_zeros<F32Elements>(x + k, K - k);
      for (int64_t i = 0; i < kTogether; ++i) s[i] = hn::MulAdd(and_zeros<E>(w.row[i] + k, K - k), xk, s[i]);
    }
    for (int64_t i = 0; i < kTogether && i < w.left; ++i) sums[r + i] = lane_sum(s[i]);
  }
}

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void pair_dots(float* sums, const void* weight, int64_t stride, int64_t rows, const float* x, int64_t K) {
  dots<Bf16Elements>(sums, weight, stride, rows, x, K);
}
#else
// bf16 weights two to a 32-bit word: the even element shifted up and the odd one masked are floats already, which is cheaper than widening.
// The activations are laid apart in the same way, a piece of K at a time.
HWY_INLINE void pair_dots(float* sums, const void* weight, int64_t stride, int64_t rows, const float* x, int64_t K) {
  const D d;
  const hn::Repartition<uint32_t, D> d32;
  const auto odd_half = hn::Set(d32, 0xffff0000u);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), step = 2 * lanes;
  constexpr int64_t kPiece = 4096;
  HWY_ALIGN float apart[kPiece];
  std::fill(sums, sums + rows, 0.0f);
  for (int64_t first = 0; first < K; first += kPiece) {
    const int64_t n = std::min(kPiece, K - first), whole = n / step * step;
    for (int64_t k = 0; k < whole; k += step) {
      V even, odd;
      hn::LoadInterleaved2(d, x + first + k, even, odd);
      hn::Store(even, d, apart + k);
      hn::Store(odd, d, apart + k + lanes);
    }
    for (int64_t r = 0; r < rows; r += kTogether) {
      const RowsInHand<uint16_t> w(weight, stride, r, rows, first, n);
      V e[kTogether], o[kTogether];
      for (int64_t i = 0; i < kTogether; ++i) e[i] = o[i] = hn::Zero(d);
      for (int64_t k = 0; k < whole; k += step) {
        if (k % 32 == 0) w.ask_for_next(k);
        const V even = hn::Load(d, apart + k), odd = hn::Load(d, apart + k + lanes);
        for (int64_t i = 0; i < kTogether; ++i) {
          const auto pair = hn::BitCast(d32, hn::LoadU(hn::Repartition<uint16_t, D>(), w.row[i] + k));
          e[i] = hn::MulAdd(hn::BitCast(d, hn::ShiftLeft<16>(pair)), even, e[i]);
          o[i] = hn::MulAdd(hn::BitCast(d, hn::And(pair, odd_half)), odd, o[i]);
        }
      }
      if (whole < n) {
        const int64_t rest = std::min(lanes, n - whole), more = n - whole - rest;
        const V x_rest = and_zeros<F32Elements>(x + first + whole, rest), x_more = and_zeros<F32Elements>(x + first + whole + rest, more);
        for (int64_t i = 0; i < kTogether; ++i) {
          e[i] = hn::MulAdd(and_zeros<Bf16Elements>(w.row[i] + whole, rest), x_rest, e[i]);
          o[i] = hn::MulAdd(and_zeros<Bf16Elements>(w.row[i] + whole + rest, more), x_more, o[i]);
        }
      }
      for (int64_t i = 0; i < kTogether && i < w.left; ++i) sums[r + i] += lane_sum(hn::Add(e[i], o[i]));
    }
  }
}
#endif

void RowDots(float* sums, const void* w, Dtype dtype, int64_t stride, int64_t rows, const float* x, int64_t K) {
  if (dtype == Dtype::F32) dots<F32Elements>(sums, w, stride, rows, x, K);
  else if (dtype == Dtype::BF16) pair_dots(sums, w, stride, rows, x, K);
  else dots<F16Elements>(sums, w, stride, rows, x, K);
}

template <class E>
HWY_INLINE void widen(float* out, const void* in, int64_t n) {
  const D d;
  const auto* p = static_cast<const typename E::T*>(in);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(E::load(d, p + i), d, out + i);
  for (; i < n; ++i) out[i] = E::one(p[i]);
}

template <class E>
HWY_INLINE void widen_all(float* out, int64_t out_stride, const void* in, int64_t in_stride, int64_t rows, int64_t cols) {
  constexpr int64_t kAhead = 4, kLine = 64 / static_cast<int64_t>(sizeof(typename E::T));  // short rows: the next ones have to be asked for
  const auto* row = static_cast<const typename E::T*>(in);
  for (int64_t r = 0; r < rows; ++r, row += in_stride) {
    if (r + kAhead < rows)
      for (int64_t c = 0; c < cols; c += kLine) hwy::Prefetch(row + kAhead * in_stride + c);
    widen<E>(out + r * out_stride, row, cols);
  }
}

void WidenRows(float* out, int64_t out_stride, const void* in, Dtype dtype, int64_t in_stride, int64_t rows, int64_t cols) {
  if (dtype == Dtype::BF16) widen_all<Bf16Elements>(out, out_stride, in, in_stride, rows, cols);
  else widen_all<F16Elements>(out, out_stride, in, in_stride, rows, cols);
}

void NarrowRow(bf16* out, const float* in, int64_t n) {
  for_vectors(n, [&](int64_t i, auto access) { access.store(access.load(in + i), out + i); });
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(RowDots);
HWY_EXPORT(WidenRows);
HWY_EXPORT(NarrowRow);

void row_dots(float* sums, const Tensor& w, const float* x) {
  if (is_packed(w.dtype)) return packed_dots(sums, w, x);
  HWY_DYNAMIC_DISPATCH(RowDots)(sums, w.data, w.dtype, w.row_stride, w.rows(), x, w.cols());
}
void widen_row(float* out, const Tensor& in) {
  if (is_packed(in.dtype)) return unpack_row(out, in);
  if (in.dtype == Dtype::F32) {
    std::copy_n(static_cast<const float*>(in.data), in.numel(), out);
    return;
  }
  HWY_DYNAMIC_DISPATCH(WidenRows)(out, 0, in.data, in.dtype, 0, 1, in.numel());
}
void widen_rows(const Tensor& out, const Tensor& in) {
  float* to = out.f32();
  if (is_packed(in.dtype)) {
    for (int64_t r = 0; r < in.rows(); ++r) unpack_row(to + r * out.row_stride, in.row_range(r, 1));
  } else if (in.dtype == Dtype::F32) {
    for (int64_t r = 0; r < in.rows(); ++r) std::copy_n(in.f32() + r * in.row_stride, in.cols(), to + r * out.row_stride);
  } else {
    HWY_DYNAMIC_DISPATCH(WidenRows)(to, out.row_stride, in.data, in.dtype, in.row_stride, in.rows(), in.cols());
  }
}
void narrow_row(bf16* out, const float* in, int64_t n) { HWY_DYNAMIC_DISPATCH(NarrowRow)(out, in, n); }

}  // namespace loraine
#endif
