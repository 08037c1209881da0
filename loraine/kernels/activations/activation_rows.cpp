// Compiled once per instruction set by Highway's foreach_target.
#include "loraine/kernels/activations/activation_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/activations/activation_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "loraine/kernels/activations/exp-inl.h"
#include "loraine/kernels/base/lane_sums-inl.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

HWY_INLINE V sigmoid_of(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, exp_of(d, hn::Neg(x))));
}

// Cephes' tanhf: a polynomial near 0, 1 − 2 / (e^2x + 1) beyond.
HWY_INLINE V tanh_of(D d, V x) {
  const V one = hn::Set(d, 1.0f), a = hn::Abs(x), z = hn::Mul(x, x);
  V p = hn::MulAdd(hn::Set(d, -5.70498872745e-3f), z, hn::Set(d, 2.06390887954e-2f));
  p = hn::MulAdd(p, z, hn::Set(d, -5.37397155531e-2f));
  p = hn::MulAdd(p, z, hn::Set(d, 1.33314422036e-1f));
  p = hn::MulAdd(p, z, hn::Set(d, -3.33332819422e-1f));
  const V low = hn::MulAdd(hn::Mul(p, z), x, x);
  const V high = hn::Sub(one, hn::Div(hn::Set(d, 2.0f), hn::Add(exp_of(d, hn::Add(a, a)), one)));
  return hn::IfThenElse(hn::Lt(a, hn::Set(d, 0.625f)), low, hn::CopySign(high, x));
}

// A curve gives its value at x, and with `both` its slope too.
struct SiluCurve {
  HWY_INLINE V value(D d, V x) const { return hn::Div(x, hn::Add(hn::Set(d, 1.0f), exp_of(d, hn::Neg(x)))); }
  HWY_INLINE void both(D d, V x, V& value, V& slope) const {
    const V one = hn::Set(d, 1.0f), s = sigmoid_of(d, x);
    value = hn::Mul(x, s);
    slope = hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
  }
};

// ½ (1 + tanh(u)) is sigmoid(2u); 2u = x · (kLinear + kCubic · x²).
struct GeluTanhCurve {
  static constexpr float kLinear = 1.59576912160573071f, kCubic = 0.044715f * 1.59576912160573071f;
  HWY_INLINE V half_sum(D d, V x) const {
    return sigmoid_of(d, hn::Mul(x, hn::MulAdd(hn::Mul(x, x), hn::Set(d, kCubic), hn::Set(d, kLinear))));
  }
  HWY_INLINE V value(D d, V x) const { return hn::Mul(x, half_sum(d, x)); }
  HWY_INLINE void both(D d, V x, V& value, V& slope) const {
    const V s = half_sum(d, x), near = hn::Max(hn::Set(d, -20.0f), hn::Min(hn::Set(d, 20.0f), x));  // beyond, the slope is 0 or 1
    const V rise = hn::MulAdd(hn::Mul(near, near), hn::Set(d, 3 * kCubic), hn::Set(d, kLinear));
    value = hn::Mul(x, s);
    slope = hn::MulAdd(hn::Mul(near, rise), hn::Mul(s, hn::Sub(hn::Set(d, 1.0f), s)), s);
  }
};

// With Φ the normal distribution's function and φ its density: x · Φ(x), Φ(x) + x · φ(x). Φ(−|x|) = e^(−x²/2) · t · R(t) / 2 with
// t = 1 / (1 + |x| / √8), R a polynomial through Chebyshev nodes of a = |x| / √2 in [0, 10], within 6 · 10⁻⁸ of e^(a²) · erfc(a) / t.
struct GeluErfCurve {
  HWY_INLINE V distribution(D d, V x, V& bell) const {
    const V one = hn::Set(d, 1.0f), half = hn::Set(d, 0.5f);
    bell = exp_of(d, hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5f)));
    const V t = hn::Div(one, hn::MulAdd(hn::Abs(x), hn::Set(d, 0.353553390593273762f), one));
    V r = hn::MulAdd(hn::Set(d, -0.05971492082f), t, hn::Set(d, 0.2877683043f));
    r = hn::MulAdd(r, t, hn::Set(d, -0.4938636422f));
    r = hn::MulAdd(r, t, hn::Set(d, 0.2856976986f));
    r = hn::MulAdd(r, t, hn::Set(d, -0.03184175864f));
    r = hn::MulAdd(r, t, hn::Set(d, 0.2048536539f));
    r = hn::MulAdd(r, t, hn::Set(d, 0.2425728887f));
    r = hn::MulAdd(r, t, hn::Set(d, 0.2824450433f));
    r = hn::MulAdd(r, t, hn::Set(d, 0.2820826769f));
    const V tail = hn::Mul(hn::Mul(half, bell), hn::Mul(t, r));
    return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(one, tail));
  }
  HWY_INLINE V value(D d, V x) const {
    V bell;
    return hn::Mul(x, distribution(d, x, bell));
  }
  HWY_INLINE void both(D d, V x, V& value, V& slope) const {
    V bell;
    const V share = distribution(d, x, bell);
    value = hn::Mul(x, share);
    slope = hn::MulAdd(hn::Mul(x, hn::Set(d, 0.398942280401432678f)), bell, share);
  }
};

HWY_INLINE V relu_of(D d, V x) { return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x); }  // a NaN stays one

struct ReluCurve {
  HWY_INLINE V value(D d, V x) const { return relu_of(d, x); }
  HWY_INLINE void both(D d, V x, V& value, V& slope) const {
    value = relu_of(d, x);
    slope = hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), hn::Set(d, 1.0f));
  }
};

struct Relu2Curve {
  HWY_INLINE V value(D d, V x) const {
    const V r = relu_of(d, x);
    return hn::Mul(r, r);
  }
  HWY_INLINE void both(D d, V x, V& value, V& slope) const {
    const V r = relu_of(d, x);
    value = hn::Mul(r, r);
    slope = hn::Add(r, r);
  }
};

struct XieluCurve {
  float a_p, a_n;
  static constexpr float kBeta = 0.5f, kEps = -1e-6f;
  static float softplus(float x) { return std::fmax(x, 0.0f) + std::log1p(std::exp(-std::fabs(x))); }
  explicit XieluCurve(const ActivationShape& shape) : a_p(softplus(shape.alpha_p)), a_n(kBeta + softplus(shape.alpha_n)) {}
  // expm1(m) − m, without the rounding of 1 where m is small
  HWY_INLINE V bend(D d, V m) const {
    const V low = hn::Mul(hn::Mul(exp_polynomial(d, m), m), m);
    return hn::IfThenElse(hn::Lt(hn::Abs(m), hn::Set(d, 0.34f)), low, hn::Sub(hn::Sub(exp_of(d, m), hn::Set(d, 1.0f)), m));
  }
  HWY_INLINE V value(D d, V x) const {
    V y, slope;
    both(d, x, y, slope);
    return y;
  }
  HWY_INLINE void both(D d, V x, V& value, V& slope) const {
    const V beta = hn::Set(d, kBeta), p = hn::Set(d, a_p), n = hn::Set(d, a_n), linear = hn::Mul(beta, x);
    const V m = hn::Min(x, hn::Set(d, kEps)), bent = bend(d, m);
    const auto right = hn::Gt(x, hn::Zero(d));
    value = hn::IfThenElse(right, hn::MulAdd(hn::Mul(p, x), x, linear), hn::MulAdd(n, hn::Add(bent, hn::Sub(m, x)), linear));
    slope = hn::IfThenElse(right, hn::MulAdd(hn::Add(p, p), x, beta), hn::MulAdd(n, hn::Add(bent, m), beta));
  }
};

// What a_p and a_n are multiplied with, each on its side of 0.
template <class T>
HWY_INLINE void xielu_slopes(float* sums, const T* d_h, const T* x, int64_t n) {
  const D d;
  const XieluCurve curve{ActivationShape()};
  V right = hn::Zero(d), left = hn::Zero(d);
  for_vectors(n, [&](int64_t i, auto access) {
    const V v = access.load(x + i), up = access.load(d_h + i), m = hn::Min(v, hn::Set(d, XieluCurve::kEps));
    const auto above = hn::Gt(v, hn::Zero(d));
    right = hn::Add(right, hn::IfThenElseZero(above, hn::Mul(up, hn::Mul(v, v))));
    left = hn::Add(left, hn::IfThenZeroElse(above, hn::Mul(up, hn::Add(curve.bend(d, m), hn::Sub(m, v)))));
  });
  sums[0] = lane_sum(right);
  sums[1] = lane_sum(left);
}

void XieluSlopesRow(float* sums, const void* d_h, const void* x, Dtype type, int64_t n) {
  if (type == Dtype::F32) xielu_slopes(sums, as<float>(d_h), as<float>(x), n);
  else xielu_slopes(sums, as<bf16>(d_h), as<bf16>(x), n);
}

template <class F>
HWY_INLINE void with_curve(const ActivationShape& shape, F&& f) {
  switch (shape.kind) {
    case Activation::silu: return f(SiluCurve());
    case Activation::gelu_tanh: return f(GeluTanhCurve());
    case Activation::gelu_erf: return f(GeluErfCurve());
    case Activation::relu2: return f(Relu2Curve());
    case Activation::relu: return f(ReluCurve());
    case Activation::xielu: return f(XieluCurve(shape));
  }
}

template <class T, class Curve>
HWY_INLINE void activate_to(T* h, const T* x, int64_t n, const Curve& curve) {
  for_vectors(n, [&](int64_t i, auto access) { access.store(curve.value(D(), access.load(x + i)), h + i); });
}

void ActivateRow(void* h, const void* x, Dtype type, int64_t n, const ActivationShape& shape) {
  with_curve(shape, [&](auto curve) {
    if (type == Dtype::F32) activate_to(as<float>(h), as<float>(x), n, curve);
    else activate_to(as<bf16>(h), as<bf16>(x), n, curve);
  });
}

template <class T, class Curve>
HWY_INLINE void activate_backward_to(T* d_x, const T* d_h, const T* x, int64_t n, const Curve& curve) {
  for_vectors(n, [&](int64_t i, auto access) {
    V value, slope;
    curve.both(D(), access.load(x + i), value, slope);
    access.store(hn::Mul(access.load(d_h + i), slope), d_x + i);
  });
}

void ActivateBackwardRow(void* d_x, const void* d_h, const void* x, Dtype type, int64_t n, const ActivationShape& shape) {
  with_curve(shape, [&](auto curve) {
    if (type == Dtype::F32) activate_backward_to(as<float>(d_x), as<float>(d_h), as<float>(x), n, curve);
    else activate_backward_to(as<bf16>(d_x), as<bf16>(d_h), as<bf16>(x), n, curve);
  });
}

template <class T, class Curve>
HWY_INLINE void gated_activate_to(T* h, const T* gate, const T* up, int64_t n, const Curve& curve) {
  for_vectors(n,
              [&](int64_t i, auto access) { access.store(hn::Mul(curve.value(D(), access.load(gate + i)), access.load(up + i)), h + i); });
}

void GatedActivateRow(void* h, const void* gate, const void* up, Dtype type, int64_t n, const ActivationShape& shape) {
  with_curve(shape, [&](auto curve) {
    if (type == Dtype::F32) gated_activate_to(as<float>(h), as<float>(gate), as<float>(up), n, curve);
    else gated_activate_to(as<bf16>(h), as<bf16>(gate), as<bf16>(up), n, curve);
  });
}

template <class T, class Curve>
HWY_INLINE void gated_activate_backward_to(T* d_gate, T* d_up, const T* d_h, const T* gate, const T* up, int64_t n, const Curve& curve) {
  for_vectors(n, [&](int64_t i, auto access) {
    const V u = access.load(up + i), dh = access.load(d_h + i);
    V value, slope;
    curve.both(D(), access.load(gate + i), value, slope);
    access.store(hn::Mul(hn::Mul(dh, u), slope), d_gate + i);
    access.store(hn::Mul(dh, value), d_up + i);
  });
}

void GatedActivateBackwardRow(void* d_gate, void* d_up, const void* d_h, const void* gate, const void* up, Dtype type, int64_t n,
                              const ActivationShape& shape) {
  with_curve(shape, [&](auto curve) {
    if (type == Dtype::F32)
      gated_activate_backward_to(as<float>(d_gate), as<float>(d_up), as<float>(d_h), as<float>(gate), as<float>(up), n, curve);
    else gated_activate_backward_to(as<bf16>(d_gate), as<bf16>(d_up), as<bf16>(d_h), as<bf16>(gate), as<bf16>(up), n, curve);
  });
}

void SigmoidGateRow(float* y, const float* x, const float* gate, int64_t n) {
  for_vectors(n, [&](int64_t i, auto access) { access.store(hn::Mul(access.load(x + i), sigmoid_of(D(), access.load(gate + i))), y + i); });
}

void SigmoidGateBackwardRow(float* d_x, float* d_gate, const float* d_y, const float* x, const float* gate, int64_t n) {
  const D d;
  for_vectors(n, [&](int64_t i, auto access) {
    const V s = sigmoid_of(d, access.load(gate + i)), g = hn::Mul(access.load(d_y + i), s), v = access.load(x + i);
    access.store(g, d_x + i);
    access.store(hn::Mul(hn::Mul(g, v), hn::Sub(hn::Set(d, 1.0f), s)), d_gate + i);
  });
}

void SoftCapRow(float* y, const float* x, int64_t n, float cap) {
  const D d;
  const V c = hn::Set(d, cap);
  for_vectors(n, [&](int64_t i, auto access) { access.store(hn::Mul(c, tanh_of(d, hn::Div(access.load(x + i), c))), y + i); });
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(ActivateRow);
HWY_EXPORT(ActivateBackwardRow);
HWY_EXPORT(GatedActivateRow);
HWY_EXPORT(GatedActivateBackwardRow);
HWY_EXPORT(XieluSlopesRow);
HWY_EXPORT(SigmoidGateRow);
HWY_EXPORT(SigmoidGateBackwardRow);
HWY_EXPORT(SoftCapRow);

void activate_row(void* h, const void* x, Dtype type, int64_t n, const ActivationShape& shape) {
  HWY_DYNAMIC_DISPATCH(ActivateRow)(h, x, type, n, shape);
}
void activate_backward_row(void* d_x, const void* d_h, const void* x, Dtype type, int64_t n, const ActivationShape& shape) {
  HWY_DYNAMIC_DISPATCH(ActivateBackwardRow)(d_x, d_h, x, type, n, shape);
}
void gated_activate_row(void* h, const void* gate, const void* up, Dtype type, int64_t n, const ActivationShape& shape) {
  HWY_DYNAMIC_DISPATCH(GatedActivateRow)(h, gate, up, type, n, shape);
}
void gated_activate_backward_row(void* d_gate, void* d_up, const void* d_h, const void* gate, const void* up, Dtype type, int64_t n,
                                 const ActivationShape& shape) {
  HWY_DYNAMIC_DISPATCH(GatedActivateBackwardRow)(d_gate, d_up, d_h, gate, up, type, n, shape);
}
void xielu_slopes_row(float* sums, const void* d_h, const void* x, Dtype type, int64_t n) {
  HWY_DYNAMIC_DISPATCH(XieluSlopesRow)(sums, d_h, x, type, n);
}
void sigmoid_gate_row(float* y, const float* x, const float* gate, int64_t n) { HWY_DYNAMIC_DISPATCH(SigmoidGateRow)(y, x, gate, n); }
void sigmoid_gate_backward_row(float* d_x, float* d_gate, const float* d_y, const float* x, const float* gate, int64_t n) {
  HWY_DYNAMIC_DISPATCH(SigmoidGateBackwardRow)(d_x, d_gate, d_y, x, gate, n);
}
void soft_cap_row(float* y, const float* x, int64_t n, float cap) { HWY_DYNAMIC_DISPATCH(SoftCapRow)(y, x, n, cap); }

}  // namespace loraine
#endif
