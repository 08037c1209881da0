// The last elements of a row, and sums of the lanes of a vector in one order, half by half, so that lane i meets lane i + n / 2 first: what
// row_dots and dot_tiles share to the bit. Include inside HWY_NAMESPACE files, after elements-inl.h.
#if defined(LORAINE_KERNELS_LANE_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LORAINE_KERNELS_LANE_SUMS_INL_H_
#undef LORAINE_KERNELS_LANE_SUMS_INL_H_
#else
#define LORAINE_KERNELS_LANE_SUMS_INL_H_
#endif

#include <hwy/highway.h>

#include "loraine/kernels/base/elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

// The first `count` elements, and zeros: a sum takes them like any other vector, so that no compiler's choice of how to add up a rest
// decides.
template <class E>
HWY_INLINE V and_zeros(const typename E::T* p, int64_t count) {
  HWY_ALIGN float room[hn::MaxLanes(D())] = {};
  for (int64_t i = 0; i < count; ++i) room[i] = E::one(p[i]);
  return hn::Load(D(), room);
}

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE float lane_sum(V v) { return hn::GetLane(v); }
HWY_INLINE void four_lane_sums(const V* s, float* out) {
  for (int i = 0; i < 4; ++i) out[i] = hn::GetLane(s[i]);
}
#else
template <class DV>
HWY_INLINE hn::Vec<hn::FixedTag<float, 4> > folded(DV d, hn::Vec<DV> v) {
  if constexpr (hn::MaxLanes(DV()) == 4) {
    return v;
  } else {
    const hn::Half<DV> half;
    return folded(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}
// The sum of the lanes, halves onto halves: not hn::SumOfLanes, whose order is the compiler's own for AVX-512.
HWY_INLINE float lane_sum(V v) {
  const hn::FixedTag<float, 4> d4;
  const auto four = folded(D(), v), two = hn::Add(four, hn::Shuffle1032(four));
  return hn::GetLane(hn::Add(two, hn::Shuffle2301(two)));
}
// out[i] = lane_sum(s[i]), to the bit.
HWY_INLINE void four_lane_sums(const V* s, float* out) {
  const hn::FixedTag<float, 4> d4;
  const hn::Repartition<double, decltype(d4)> d2;
  const auto a = folded(D(), s[0]), b = folded(D(), s[1]), c = folded(D(), s[2]), e = folded(D(), s[3]);
  const auto ab = hn::BitCast(d2, hn::Add(hn::InterleaveLower(d4, a, b), hn::InterleaveUpper(d4, a, b)));
  const auto ce = hn::BitCast(d2, hn::Add(hn::InterleaveLower(d4, c, e), hn::InterleaveUpper(d4, c, e)));
  hn::StoreU(hn::Add(hn::BitCast(d4, hn::InterleaveLower(d2, ab, ce)), hn::BitCast(d4, hn::InterleaveUpper(d2, ab, ce))), d4, out);
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();
#endif
