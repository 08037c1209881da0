// Compiled once per instruction set by Highway's foreach_target. Sums are kept in lanes of f32, then added up in order.
#include "loraine/kernels/rows/half_quadratic.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/rows/half_quadratic.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "loraine/kernels/base/elements-inl.h"
#include "loraine/kernels/base/lane_sums-inl.h"

// after highway.h
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

HWY_INLINE float code_of(const RoundedGroup& g, int64_t i) {
  return std::clamp(std::nearbyint(g.x[i] * g.inverse_scale + g.zero), 0.0f, g.top);
}

float HalfQuadraticStep(float& next_zero, const RoundedGroup& g, float beta, float power) {
  float error = 0, zeros = 0;
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const V scale = hn::Set(d, g.inverse_scale), zero = hn::Set(d, g.zero), none = hn::Zero(d), exponent = hn::Set(d, power - 1);
  const V share = hn::Set(d, 1.0f / beta);
  V errors = none, sums = none;
  for (; i + lanes <= g.n; i += lanes) {
    const V x = hn::LoadU(d, g.x + i);
    const V q = hn::Min(hn::Max(hn::Round(hn::Add(hn::Mul(x, scale), zero)), none), hn::Set(d, g.top));
    const V rest = hn::Sub(x, hn::Div(hn::Sub(q, zero), scale)), size = hn::Abs(rest);
    errors = hn::Add(errors, size);
    const V shrunk = hn::Sub(size, hn::Mul(share, hn::Exp(d, hn::Mul(exponent, hn::Log(d, hn::Max(size, hn::Set(d, 1e-30f)))))));
    const V e = hn::CopySign(hn::Max(shrunk, none), rest);
    sums = hn::Add(sums, hn::Sub(q, hn::Mul(hn::Sub(x, e), scale)));
  }
  error = lane_sum(errors);
  zeros = lane_sum(sums);
#endif
  for (; i < g.n; ++i) {
    const float q = code_of(g, i), rest = g.x[i] - (q - g.zero) / g.inverse_scale, size = std::fabs(rest);
    const float e = std::copysign(std::max(size - std::pow(std::max(size, 1e-30f), power - 1) * (1.0f / beta), 0.0f), rest);
    error += size;
    zeros += q - (g.x[i] - e) * g.inverse_scale;
  }
  next_zero = zeros / static_cast<float>(g.n);
  return error;
}

void GroupCodes(uint8_t* codes, const RoundedGroup& g) {
  for (int64_t i = 0; i < g.n; ++i) {
    const float code = code_of(g, i);
    codes[i] = code >= 0 ? static_cast<uint8_t>(code) : uint8_t{0};  // also of what is not a number
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(HalfQuadraticStep);
HWY_EXPORT(GroupCodes);

float half_quadratic_step(float& next_zero, const RoundedGroup& group, float beta, float power) {
  return HWY_DYNAMIC_DISPATCH(HalfQuadraticStep)(next_zero, group, beta, power);
}

void group_codes(uint8_t* codes, const RoundedGroup& group) { HWY_DYNAMIC_DISPATCH(GroupCodes)(codes, group); }

}  // namespace loraine
#endif
