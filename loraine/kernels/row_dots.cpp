// Four rows of the weight at a time against the row of activations, compiled once per instruction set by Highway's foreach_target.
#include "loraine/kernels/row_dots.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/row_dots.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "loraine/kernels/elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

struct F32Elements {
  using T = float;
  static HWY_INLINE V load(D d, const T* p) { return hn::LoadU(d, p); }
  static HWY_INLINE float one(T x) { return x; }
};
struct Bf16Elements {
  using T = uint16_t;
  static HWY_INLINE V load(D d, const T* p) { return widen_vector(d, hn::LoadU(D16(), p)); }
  static HWY_INLINE float one(T x) { return bf16_to_f32(x); }
};
struct F16Elements {
  using T = uint16_t;
  static HWY_INLINE V load(D d, const T* p) {
    const hn::Rebind<hwy::float16_t, D> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
  }
  static HWY_INLINE float one(T x) { return f16_to_f32(x); }
};

template <class E>
HWY_INLINE void dots(float* sums, const void* weight, int64_t stride, int64_t rows, const float* x, int64_t K) {
  using T = typename E::T;
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t kLine = std::max<int64_t>(64 / static_cast<int64_t>(sizeof(T)), lanes);
  for (int64_t r = 0; r < rows; r += 4) {
    const T* w0 = static_cast<const T*>(weight) + r * stride;
    const int64_t left = rows - r;  // past the end the last row is read again and its sum dropped
    const T *w1 = left > 1 ? w0 + stride : w0, *w2 = left > 2 ? w1 + stride : w1, *w3 = left > 3 ? w2 + stride : w2;
    const int64_t ahead = left >= 8 ? 4 * stride : 0;  // never past the end: an unmapped page is looked up at length
    V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    int64_t k = 0;
    auto step = [&] {
      V xk = hn::LoadU(d, x + k);
      s0 = hn::MulAdd(E::load(d, w0 + k), xk, s0);
      s1 = hn::MulAdd(E::load(d, w1 + k), xk, s1);
      s2 = hn::MulAdd(E::load(d, w2 + k), xk, s2);
      s3 = hn::MulAdd(E::load(d, w3 + k), xk, s3);
      k += lanes;
    };
    // A row is too short for the processor to see where it leads: the rows after these four are asked for line by line.
    while (k + kLine <= K) {
      hwy::Prefetch(w0 + ahead + k);
      hwy::Prefetch(w1 + ahead + k);
      hwy::Prefetch(w2 + ahead + k);
      hwy::Prefetch(w3 + ahead + k);
      for (const int64_t end = k + kLine; k < end;) step();
    }
    while (k + lanes <= K) step();
    float out[4] = {hn::GetLane(hn::SumOfLanes(d, s0)), hn::GetLane(hn::SumOfLanes(d, s1)), hn::GetLane(hn::SumOfLanes(d, s2)),
                    hn::GetLane(hn::SumOfLanes(d, s3))};
    for (; k < K; ++k) {
      out[0] += E::one(w0[k]) * x[k];
      out[1] += E::one(w1[k]) * x[k];
      out[2] += E::one(w2[k]) * x[k];
      out[3] += E::one(w3[k]) * x[k];
    }
    for (int64_t i = 0; i < 4 && i < left; ++i) sums[r + i] = out[i];
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
  constexpr int64_t kPiece = 2048;
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
    for (int64_t r = 0; r < rows; r += 4) {
      const int64_t left = rows - r;  // past the end the last row is read again and its sum dropped
      const uint16_t* w[4];
      for (int64_t i = 0; i < 4; ++i) w[i] = static_cast<const uint16_t*>(weight) + (r + std::min(i, left - 1)) * stride + first;
      const int64_t ahead = left >= 8 ? 4 * stride : 0;  // never past the end: an unmapped page is looked up at length
      V e0 = hn::Zero(d), e1 = e0, e2 = e0, e3 = e0, o0 = e0, o1 = e0, o2 = e0, o3 = e0;
      auto add = [&](V& even_sum, V& odd_sum, const uint16_t* row, V even, V odd) {
        const auto pair = hn::BitCast(d32, hn::LoadU(hn::Repartition<uint16_t, D>(), row));
        even_sum = hn::MulAdd(hn::BitCast(d, hn::ShiftLeft<16>(pair)), even, even_sum);
        odd_sum = hn::MulAdd(hn::BitCast(d, hn::And(pair, odd_half)), odd, odd_sum);
      };
      for (int64_t k = 0; k < whole; k += step) {
        if (k % 32 == 0)
          for (const uint16_t* row : w) hwy::Prefetch(row + ahead + k);
        const V even = hn::Load(d, apart + k), odd = hn::Load(d, apart + k + lanes);
        add(e0, o0, w[0] + k, even, odd);
        add(e1, o1, w[1] + k, even, odd);
        add(e2, o2, w[2] + k, even, odd);
        add(e3, o3, w[3] + k, even, odd);
      }
      float out[4] = {hn::GetLane(hn::SumOfLanes(d, hn::Add(e0, o0))), hn::GetLane(hn::SumOfLanes(d, hn::Add(e1, o1))),
                      hn::GetLane(hn::SumOfLanes(d, hn::Add(e2, o2))), hn::GetLane(hn::SumOfLanes(d, hn::Add(e3, o3)))};
      for (int64_t k = whole; k < n; ++k)
        for (int64_t i = 0; i < 4; ++i) out[i] += bf16_to_f32(w[i][k]) * x[first + k];
      for (int64_t i = 0; i < 4 && i < left; ++i) sums[r + i] += out[i];
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

void WidenRow(float* out, const void* in, Dtype dtype, int64_t n) {
  if (dtype == Dtype::BF16) widen<Bf16Elements>(out, in, n);
  else widen<F16Elements>(out, in, n);
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
HWY_EXPORT(WidenRow);
HWY_EXPORT(NarrowRow);

void row_dots(float* sums, const void* w, Dtype dtype, int64_t stride, int64_t rows, const float* x, int64_t K) {
  HWY_DYNAMIC_DISPATCH(RowDots)(sums, w, dtype, stride, rows, x, K);
}
void widen_row(float* out, const void* in, Dtype dtype, int64_t n) { HWY_DYNAMIC_DISPATCH(WidenRow)(out, in, dtype, n); }
void narrow_row(bf16* out, const float* in, int64_t n) { HWY_DYNAMIC_DISPATCH(NarrowRow)(out, in, n); }

}  // namespace loraine
#endif
