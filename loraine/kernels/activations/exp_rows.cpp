// e^x and the loops around it, compiled once per instruction set by Highway's foreach_target.
#include "loraine/kernels/activations/exp_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/activations/exp_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <limits>

#include "loraine/kernels/activations/exp-inl.h"
#include "loraine/kernels/base/lane_sums-inl.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

template <class T>
HWY_INLINE float exp_to(T* out, const float* x, int64_t n, float scale, float shift) {
  const D d;
  const V s = hn::Set(d, scale), b = hn::Set(d, shift);
  V sum = hn::Zero(d);
  for_vectors(n, [&](int64_t i, auto access) {
    V e = exp_of(d, hn::MulSub(access.load(x + i), s, b));
    access.store(e, out + i);
    sum = hn::Add(sum, access.valid(e));
  });
  return lane_sum(sum);
}

float ExpRow(void* out, Dtype type, const float* x, int64_t n, float scale, float shift) {
  return type == Dtype::F32 ? exp_to(as<float>(out), x, n, scale, shift) : exp_to(as<bf16>(out), x, n, scale, shift);
}

template <class T>
HWY_INLINE void softmax_backward_to(T* p, T* d_s, const float* s, const float* d_p, int64_t n, float scale, float lse, float delta) {
  const D d;
  const V by = hn::Set(d, scale), shift = hn::Set(d, lse), less = hn::Set(d, delta);
  for_vectors(n, [&](int64_t i, auto access) {
    V e = exp_of(d, hn::MulSub(access.load(s + i), by, shift));
    V g = hn::Mul(hn::Mul(e, hn::Sub(access.load(d_p + i), less)), by);
    access.store(e, p + i);
    access.store(g, d_s + i);
  });
}

void SoftmaxBackwardRow(void* p, void* d_s, Dtype type, const float* s, const float* d_p, int64_t n, float scale, float lse, float delta) {
  if (type == Dtype::F32) softmax_backward_to(as<float>(p), as<float>(d_s), s, d_p, n, scale, lse, delta);
  else softmax_backward_to(as<bf16>(p), as<bf16>(d_s), s, d_p, n, scale, lse, delta);
}

float SumExpRow(const float* x, int64_t n, float shift) {
  const D d;
  const V b = hn::Set(d, shift);
  V sum = hn::Zero(d);
  for_vectors(n, [&](int64_t i, auto access) { sum = hn::Add(sum, access.valid(exp_of(d, hn::Sub(access.load(x + i), b)))); });
  return lane_sum(sum);
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
  const V f = hn::Set(D(), factor);
  for_vectors(n, [&](int64_t i, auto access) { access.store(hn::Mul(access.load(x + i), f), x + i); });
}

template <class T>
HWY_INLINE void swiglu_to(T* h, const T* gate, const T* up, int64_t n) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  for_vectors(n, [&](int64_t i, auto access) {
    V g = access.load(gate + i);
    access.store(hn::Mul(hn::Div(g, hn::Add(one, exp_of(d, hn::Neg(g)))), access.load(up + i)), h + i);
  });
}

void SwigluRow(void* h, const void* gate, const void* up, Dtype type, int64_t n) {
  if (type == Dtype::F32) swiglu_to(as<float>(h), as<float>(gate), as<float>(up), n);
  else swiglu_to(as<bf16>(h), as<bf16>(gate), as<bf16>(up), n);
}

template <class T>
HWY_INLINE void swiglu_backward_to(T* d_gate, T* d_up, const T* d_h, const T* gate, const T* up, int64_t n) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  for_vectors(n, [&](int64_t i, auto access) {
    V g = access.load(gate + i), u = access.load(up + i), dh = access.load(d_h + i);
    V s = hn::Div(one, hn::Add(one, exp_of(d, hn::Neg(g))));
    V ds = hn::Mul(dh, s);
    access.store(hn::Mul(hn::Mul(ds, u), hn::MulAdd(g, hn::Sub(one, s), one)), d_gate + i);
    access.store(hn::Mul(ds, g), d_up + i);
  });
}

void SwigluBackwardRow(void* d_gate, void* d_up, const void* d_h, const void* gate, const void* up, Dtype type, int64_t n) {
  if (type == Dtype::F32) swiglu_backward_to(as<float>(d_gate), as<float>(d_up), as<float>(d_h), as<float>(gate), as<float>(up), n);
  else swiglu_backward_to(as<bf16>(d_gate), as<bf16>(d_up), as<bf16>(d_h), as<bf16>(gate), as<bf16>(up), n);
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(ExpRow);
HWY_EXPORT(SoftmaxBackwardRow);
HWY_EXPORT(SumExpRow);
HWY_EXPORT(MaxRow);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(SwigluRow);
HWY_EXPORT(SwigluBackwardRow);

float exp_row(void* out, Dtype type, const float* x, int64_t n, float scale, float shift) {
  return HWY_DYNAMIC_DISPATCH(ExpRow)(out, type, x, n, scale, shift);
}
float exp_row(float* x, int64_t n, float scale, float shift) { return exp_row(x, Dtype::F32, x, n, scale, shift); }
void softmax_backward_row(void* p, void* d_s, Dtype type, const float* s, const float* d_p, int64_t n, float scale, float lse,
                          float delta) {
  HWY_DYNAMIC_DISPATCH(SoftmaxBackwardRow)(p, d_s, type, s, d_p, n, scale, lse, delta);
}
float sum_exp_row(const float* x, int64_t n, float shift) { return HWY_DYNAMIC_DISPATCH(SumExpRow)(x, n, shift); }
float max_row(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(MaxRow)(x, n); }
void scale_row(float* x, int64_t n, float factor) { HWY_DYNAMIC_DISPATCH(ScaleRow)(x, n, factor); }
void swiglu_row(void* h, const void* gate, const void* up, Dtype type, int64_t n) { HWY_DYNAMIC_DISPATCH(SwigluRow)(h, gate, up, type, n); }
void swiglu_backward_row(void* d_gate, void* d_up, const void* d_h, const void* gate, const void* up, Dtype type, int64_t n) {
  HWY_DYNAMIC_DISPATCH(SwigluBackwardRow)(d_gate, d_up, d_h, gate, up, type, n);
}

}  // namespace loraine
#endif
