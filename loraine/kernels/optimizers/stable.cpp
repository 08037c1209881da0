// Sums in double in a fixed order, elements in f32.
#include "loraine/kernels/optimizers/stable.h"

#include <cmath>

#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/optimizers/blocks-inl.h"

namespace loraine {
namespace {

struct StableStep {
  float scale, rest1, beta2, rest2, least, epsilon;
};

// The moments of one block, and the sum of g² / max(v, ε²) over it.
LORAINE_CLONES double stable_moments(float* m, float* v, const float* grad, int64_t n, StableStep s) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale;
    m[i] = s.rest1 < 0.5f ? m[i] + s.rest1 * (g - m[i]) : g - (g - m[i]) * (1.0f - s.rest1);
    v[i] = v[i] * s.beta2 + s.rest2 * g * g;
    sum += static_cast<double>(g * g / (v[i] > s.least ? v[i] : s.least));
  }
  return sum;
}

LORAINE_CLONES void stable_apply(float* p, const float* m, const float* v, int64_t n, float keep, float rate, float epsilon) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) p[i] = p[i] * keep - rate * (m[i] / (__builtin_sqrtf(v[i]) + epsilon));
}

LORAINE_CLONES double squares_of(const float* grad, int64_t n, float scale) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * scale;
    sum += static_cast<double>(g * g);
  }
  return sum;
}

LORAINE_CLONES void mini_block(float* p, float* m, const float* grad, int64_t n, float scale, float rest1, float keep, float step,
                               float rate) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * scale;
    m[i] = rest1 < 0.5f ? m[i] + rest1 * (g - m[i]) : g - (g - m[i]) * (1.0f - rest1);
    p[i] = p[i] * keep - m[i] * step * rate;
  }
}

// β corrected for its start
double corrected(double beta, int64_t step) {
  const double power = std::pow(beta, static_cast<double>(step));
  return (power - beta) / (power - 1);
}

constexpr int64_t kBlock = 16384;

}  // namespace

void stable_adam(Context& ctx, const Update& u, const Tensor& m, const Tensor& v, const StableAdam& options) {
  const double beta1 = corrected(options.beta1, u.step), beta2 = corrected(options.beta2, u.step);
  const StableStep s{.scale = u.scale,
                     .rest1 = static_cast<float>(1 - beta1),
                     .beta2 = static_cast<float>(beta2),
                     .rest2 = static_cast<float>(1 - beta2),
                     .least = static_cast<float>(options.epsilon * options.epsilon),
                     .epsilon = static_cast<float>(options.epsilon)};
  check_update("stable_adam", u, std::array<Moment, 2>{Moment{m}, Moment{v}});
  dispatch(ctx, "stable_adam", [&] {
    const int64_t n = u.value.numel();
    double sum = 0;
    for (int64_t i = 0; i < n; i += kBlock)
      sum += stable_moments(m.f32() + i, v.f32() + i, u.gradient.f32() + i, std::min(kBlock, n - i), s);
    const double rate = u.rate / std::max(1.0, std::sqrt(sum / static_cast<double>(n)));
    const double keep = 1 - (options.peak_rate > 0 ? rate / options.peak_rate : rate) * u.decay;
    over_blocks(std::array<Moment, 2>{Moment{m}, Moment{v}}, n, [&](int64_t first, int64_t count, float* const* state) {
      stable_apply(u.value.f32() + first, state[0], state[1], count, static_cast<float>(keep), static_cast<float>(rate), s.epsilon);
    });
  });
}

void adam_mini(Context& ctx, const Update& u, const Tensor& m, const Tensor& v, const Adam& options) {
  check_update("adam_mini", u, std::array<Moment, 1>{Moment{m}});
  const int64_t groups = v.numel(), size = u.value.numel() / std::max<int64_t>(groups, 1);
  check_op(v.dtype == Dtype::F32 && groups > 0 && size * groups == u.value.numel(), "adam_mini", "the groups must be of equal size");
  const double step = static_cast<double>(u.step), root = std::sqrt(1 - std::pow(options.beta2, step));
  const float keep = static_cast<float>(1 - u.rate * u.decay), rest1 = static_cast<float>(1 - options.beta1);
  const float correction = static_cast<float>(1 / (1 - std::pow(options.beta1, step))), rate = static_cast<float>(u.rate);
  dispatch(ctx, "adam_mini", [&] {
    parallel_for(groups, [&](int64_t group) {
      const int64_t first = group * size;
      double sum = 0;
      for (int64_t i = 0; i < size; i += kBlock) sum += squares_of(u.gradient.f32() + first + i, std::min(kBlock, size - i), u.scale);
      const float mean = static_cast<float>(sum / static_cast<double>(size));
      float& second = v.f32()[group];
      second = second * static_cast<float>(options.beta2) + static_cast<float>(1 - options.beta2) * mean;
      const float h = std::sqrt(second) / static_cast<float>(root) + static_cast<float>(options.epsilon);
      mini_block(u.value.f32() + first, m.f32() + first, u.gradient.f32() + first, size, u.scale, rest1, keep, correction / h, rate);
    });
  });
}

}  // namespace loraine
