// e^x and the loops around it, compiled once per instruction set by Highway's foreach_target.
#include "loraine/kernels/exp_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/exp_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <limits>

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Polynomial of Cephes' expf on x − n · ln 2. The limits come first in Min and Max: with a NaN they give their second argument (x86) or the
// NaN (Arm). At −88 the power of two is 2⁻¹²⁷, whose bits are those of 0.
HWY_INLINE V exp_of(D d, V in) {
  const hn::RebindToSigned<D> di;
  V x = hn::Max(hn::Set(d, -88.0f), hn::Min(hn::Set(d, 88.3f), in));
  const V round = hn::Set(d, 12582912.0f);  // 1.5 · 2²³: adding it rounds to an integer
  V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), round);
  V n = hn::Sub(shifted, round);
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  V p = hn::MulAdd(hn::Set(d, 1.9875691500e-4f), r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  p = hn::Add(hn::MulAdd(hn::Mul(p, r), r, r), hn::Set(d, 1.0f));
  const auto power = hn::Add(hn::ShiftLeft<23>(hn::BitCast(di, shifted)), hn::Set(di, 0x3f800000));
  return hn::Mul(p, hn::BitCast(d, power));
}

// Calls body(i, load, store) for whole vectors, then once for the rest with masked memory access.
template <class Body>
HWY_INLINE void for_vectors(D d, int64_t n, Body&& body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    body(
        i, [d](const float* p) { return hn::LoadU(d, p); }, [d](V v, float* p) { hn::StoreU(v, d, p); }, [](V v) { return v; });
  if (i == n) return;
  const auto mask = hn::FirstN(d, static_cast<size_t>(n - i));
  body(
      i, [d, mask](const float* p) { return hn::MaskedLoad(mask, d, p); }, [d, mask](V v, float* p) { hn::BlendedStore(v, mask, d, p); },
      [mask](V v) { return hn::IfThenElseZero(mask, v); });
}

float ExpRow(float* x, int64_t n, float scale, float shift) {
  const D d;
  const V s = hn::Set(d, scale), b = hn::Set(d, shift);
  V sum = hn::Zero(d);
  for_vectors(d, n, [&](int64_t i, auto load, auto store, auto valid) {
    V e = exp_of(d, hn::MulSub(load(x + i), s, b));
    store(e, x + i);
    sum = hn::Add(sum, valid(e));
  });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

float SumExpRow(const float* x, int64_t n, float shift) {
  const D d;
  const V b = hn::Set(d, shift);
  V sum = hn::Zero(d);
  for_vectors(d, n, [&](int64_t i, auto load, auto, auto valid) { sum = hn::Add(sum, valid(exp_of(d, hn::Sub(load(x + i), b)))); });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

float MaxRow(const float* x, int64_t n) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V best = hn::Set(d, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) best = hn::Max(best, hn::LoadU(d, x + i));
  float out = hn::GetLane(hn::MaxOfLanes(d, best));
  for (; i < n; ++i) out = x[i] > out ? x[i] : out;
  return out;
}

void ScaleRow(float* x, int64_t n, float factor) {
  const D d;
  const V f = hn::Set(d, factor);
  for_vectors(d, n, [&](int64_t i, auto load, auto store, auto) { store(hn::Mul(load(x + i), f), x + i); });
}

void SwigluRow(float* h, const float* gate, const float* up, int64_t n) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  for_vectors(d, n, [&](int64_t i, auto load, auto store, auto) {
    V g = load(gate + i);
    store(hn::Mul(hn::Div(g, hn::Add(one, exp_of(d, hn::Neg(g)))), load(up + i)), h + i);
  });
}

void SwigluBackwardRow(float* d_gate, float* d_up, const float* d_h, const float* gate, const float* up, int64_t n) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  for_vectors(d, n, [&](int64_t i, auto load, auto store, auto) {
    V g = load(gate + i), u = load(up + i), dh = load(d_h + i);
    V s = hn::Div(one, hn::Add(one, exp_of(d, hn::Neg(g))));
    V ds = hn::Mul(dh, s);
    store(hn::Mul(hn::Mul(ds, u), hn::MulAdd(g, hn::Sub(one, s), one)), d_gate + i);
    store(hn::Mul(ds, g), d_up + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(ExpRow);
HWY_EXPORT(SumExpRow);
HWY_EXPORT(MaxRow);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(SwigluRow);
HWY_EXPORT(SwigluBackwardRow);

float exp_row(float* x, int64_t n, float scale, float shift) { return HWY_DYNAMIC_DISPATCH(ExpRow)(x, n, scale, shift); }
float sum_exp_row(const float* x, int64_t n, float shift) { return HWY_DYNAMIC_DISPATCH(SumExpRow)(x, n, shift); }
float max_row(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(MaxRow)(x, n); }
void scale_row(float* x, int64_t n, float factor) { HWY_DYNAMIC_DISPATCH(ScaleRow)(x, n, factor); }
void swiglu_row(float* h, const float* gate, const float* up, int64_t n) { HWY_DYNAMIC_DISPATCH(SwigluRow)(h, gate, up, n); }
void swiglu_backward_row(float* d_gate, float* d_up, const float* d_h, const float* gate, const float* up, int64_t n) {
  HWY_DYNAMIC_DISPATCH(SwigluBackwardRow)(d_gate, d_up, d_h, gate, up, n);
}

}  // namespace loraine
#endif
