// AdamW on the CPU with torch's order of operations (torch/optim/adamw.py, single-tensor form): scalars in double, elements in f32.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/training/adamw_scalars.h"

namespace loraine {
namespace {

struct Step {
  float decay, lerp, beta2, one_minus_beta2, denominator, epsilon, step_size, grad_scale;
};

LORAINE_CLONES void update(float* p, float* m, float* v, const float* grad, int64_t n, Step s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    float g = grad[i] * s.grad_scale;
    float mi = s.lerp < 0.5f ? m[i] + s.lerp * (g - m[i]) : g - (g - m[i]) * (1.0f - s.lerp);
    float vi = v[i] * s.beta2 + s.one_minus_beta2 * g * g;
    m[i] = mi;
    v[i] = vi;
    p[i] = p[i] * s.decay - s.step_size * (mi / (__builtin_sqrtf(vi) / s.denominator + s.epsilon));
  }
}

LORAINE_CLONES double squares(const float* x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

constexpr int64_t kBlock = 16384;

}  // namespace

double decimal_of(float x) {
  std::string text = fmt::format("{}", x);
  double value = x;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

AdamWScalars adamw_scalars(const AdamW& options) {
  const double lr = decimal_of(options.learning_rate), beta1 = decimal_of(options.beta1), beta2 = decimal_of(options.beta2);
  const double t = static_cast<double>(options.step);
  return {.learning_rate = lr,
          .lerp = static_cast<float>(1 - beta1),
          .beta2 = static_cast<float>(beta2),
          .one_minus_beta2 = static_cast<float>(1 - beta2),
          .denominator = static_cast<float>(std::sqrt(1 - std::pow(beta2, t))),
          .epsilon = static_cast<float>(decimal_of(options.epsilon)),
          .step_size = static_cast<float>(lr / (1 - std::pow(beta1, t)))};
}

void adamw_cpu(const Tensor& parameter, const Tensor& m, const Tensor& v, const Tensor& gradient, float grad_scale, const AdamW& options) {
  const AdamWScalars scalars = adamw_scalars(options);
  Step s{.decay = AdamWScalars::decay(scalars.learning_rate, decimal_of(options.weight_decay)),
         .lerp = scalars.lerp,
         .beta2 = scalars.beta2,
         .one_minus_beta2 = scalars.one_minus_beta2,
         .denominator = scalars.denominator,
         .epsilon = scalars.epsilon,
         .step_size = scalars.step_size,
         .grad_scale = grad_scale};
  int64_t n = parameter.numel();
  parallel_for((n + kBlock - 1) / kBlock, [&](int64_t b) {
    int64_t i = b * kBlock;
    update(parameter.f32() + i, m.f32() + i, v.f32() + i, gradient.f32() + i, std::min(kBlock, n - i), s);
  });
}

double sum_of_squares_cpu(const Tensor& x) {
  int64_t C = x.cols();
  double total = 0;
  for (int64_t t = 0; t < x.rows(); ++t) {
    const float* row = x.f32() + t * x.row_stride;
    for (int64_t c = 0; c < C; c += kBlock) total += squares(row + c, std::min(kBlock, C - c));
  }
  return total;
}

}  // namespace loraine
