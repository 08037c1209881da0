// e^x of a vector, for the loops that Highway compiles once per instruction set: include inside HWY_NAMESPACE files, after
// foreach_target.h and highway.h. Included by exp_rows and activation_rows.
#if defined(LORAINE_KERNELS_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LORAINE_KERNELS_EXP_INL_H_
#undef LORAINE_KERNELS_EXP_INL_H_
#else
#define LORAINE_KERNELS_EXP_INL_H_
#endif

#include <hwy/highway.h>

#include "loraine/kernels/base/elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

// Cephes' polynomial P of expf: e^r = 1 + r + r² · P(r) for |r| ≤ ln 2 / 2.
HWY_INLINE V exp_polynomial(D d, V r) {
  V p = hn::MulAdd(hn::Set(d, 1.9875691500e-4f), r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  return hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
}

// The polynomial on x − n · ln 2. The limits come first in Min and Max: with a NaN they give their second argument on x86; ARM's give the
// number, so a NaN is put back there. At −88 the power of two is 2⁻¹²⁷, whose bits are those of 0.
HWY_INLINE V exp_of(D d, V in) {
  const hn::RebindToSigned<D> di;
  V x = hn::Max(hn::Set(d, -88.0f), hn::Min(hn::Set(d, 88.3f), in));
  const V round = hn::Set(d, 12582912.0f);  // 1.5 · 2²³: adding it rounds to an integer
  V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), round);
  V n = hn::Sub(shifted, round);
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  V p = exp_polynomial(d, r);
  p = hn::Add(hn::MulAdd(hn::Mul(p, r), r, r), hn::Set(d, 1.0f));
  const auto power = hn::Add(hn::ShiftLeft<23>(hn::BitCast(di, shifted)), hn::Set(di, 0x3f800000));
  const V e = hn::Mul(p, hn::BitCast(d, power));
  return HWY_ARCH_ARM ? hn::IfThenElse(hn::IsNaN(in), in, e) : e;
}

template <class T>
HWY_INLINE T* as(void* p) {
  return static_cast<T*>(p);
}
template <class T>
HWY_INLINE const T* as(const void* p) {
  return static_cast<const T*>(p);
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();
#endif
