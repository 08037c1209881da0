// F32 and BF16 elements as vectors of f32, for the loops that Highway compiles once per instruction set: include inside HWY_NAMESPACE
// files, after foreach_target.h and highway.h.
#if defined(LORAINE_KERNELS_ELEMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LORAINE_KERNELS_ELEMENTS_INL_H_
#undef LORAINE_KERNELS_ELEMENTS_INL_H_
#else
#define LORAINE_KERNELS_ELEMENTS_INL_H_
#endif

#include <hwy/highway.h>

#include "loraine/core/dtype.h"
#include "loraine/kernels/base/machine.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using D16 = hn::Rebind<uint16_t, D>;
using D32 = hn::Rebind<uint32_t, D>;

HWY_INLINE V widen_vector(D d, hn::Vec<D16> x) { return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(D32(), x))); }
// Rounds to nearest even; a NaN stays one.
HWY_INLINE hn::Vec<D16> narrow_exactly(D d, V v) {
  const D32 d32;
  const auto u = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(d32, 1));
  const auto rounded = hn::Add(u, hn::Add(odd, hn::Set(d32, 0x7fff)));
  const auto quiet = hn::Or(u, hn::Set(d32, 0x400000));
  const auto bits = hn::ShiftRight<16>(hn::BitCast(d32, hn::IfThenElse(hn::IsNaN(v), hn::BitCast(d, quiet), hn::BitCast(d, rounded))));
  return hn::DemoteTo(D16(), hn::BitCast(hn::Rebind<int32_t, D>(), bits));
}
// Rounds to nearest even; a NaN stays one. Where the processor has an instruction for it, that one, which takes denormals for zero.
HWY_INLINE hn::Vec<D16> narrow_vector(D d, V v) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  if (has_bf16_rounding) {
    hn::Vec<D16> out;
    asm("vcvtneps2bf16 %1, %0" : "=v"(out.raw) : "v"(v.raw));
    return out;
  }
#endif
  return narrow_exactly(d, v);
}

// The types that weights are stored in: whole vectors and single elements as f32.
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

// Memory access of whole vectors …
struct WholeVectors {
  V load(const float* p) const { return hn::LoadU(D(), p); }
  V load(const bf16* p) const { return widen_vector(D(), hn::LoadU(D16(), p)); }
  void store(V v, float* p) const { hn::StoreU(v, D(), p); }
  void store(V v, bf16* p) const { hn::StoreU(narrow_vector(D(), v), D16(), p); }
  V valid(V v) const { return v; }
};
// … and of the first n elements of one, which leaves the others alone; `valid` zeroes them.
struct FirstElements {
  size_t n;
  V load(const float* p) const { return first(D(), p); }
  V load(const bf16* p) const { return widen_vector(D(), first(D16(), p)); }
  void store(V v, float* p) const { hn::BlendedStore(v, hn::FirstN(D(), n), D(), p); }
  void store(V v, bf16* p) const { hn::BlendedStore(narrow_vector(D(), v), hn::FirstN(D16(), n), D16(), p); }
  V valid(V v) const { return hn::IfThenElseZero(hn::FirstN(D(), n), v); }

 private:
  // Not hn::MaskedLoad: without AVX-512 that one may read whole aligned vectors, beyond the n elements too.
  template <class Tag, class T>
  hn::Vec<Tag> first(Tag d, const T* p) const {
#if HWY_TARGET <= HWY_AVX3
    return hn::MaskedLoad(hn::FirstN(d, n), d, p);
#else
    HWY_ALIGN T room[hn::MaxLanes(Tag())] = {};
    for (size_t i = 0; i < n; ++i) room[i] = p[i];
    return hn::Load(d, room);
#endif
  }
};

// Calls body(i, access) for whole vectors from element 0, then once for the rest of n.
template <class Body>
HWY_INLINE void for_vectors(int64_t n, Body&& body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(i, WholeVectors());
  if (i < n) body(i, FirstElements{static_cast<size_t>(n - i)});
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();
#endif
