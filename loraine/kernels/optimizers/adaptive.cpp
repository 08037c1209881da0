// Checks and CPU loops: scalars in double, elements in f32, in the order in which the named libraries compute.
#include "loraine/kernels/optimizers/adaptive.h"

#include <cmath>

#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/optimizers/blocks-inl.h"

namespace loraine {
namespace {

float f(double x) { return static_cast<float>(x); }
double power(double beta, int64_t step) { return std::pow(beta, static_cast<double>(step)); }

struct AdagradStep {
  float scale, decay, rate, epsilon;
};
LORAINE_CLONES void adagrad_block(float* p, float* sum, const float* grad, int64_t n, AdagradStep s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale + s.decay * p[i];
    sum[i] += g * g;
    p[i] -= s.rate * (g / (__builtin_sqrtf(sum[i]) + s.epsilon));
  }
}

struct RmsStep {
  float scale, decay, rate, epsilon, alpha, rest, momentum;
};
LORAINE_CLONES void rms_block(float* p, float* square, const float* grad, int64_t n, RmsStep s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale + s.decay * p[i];
    square[i] = square[i] * s.alpha + s.rest * g * g;
    p[i] -= s.rate * (g / (__builtin_sqrtf(square[i]) + s.epsilon));
  }
}
// centered, or with momentum; the pointers that are not needed are null
void rms_block_with(float* p, float* square, float* mean, float* buffer, const float* grad, int64_t n, RmsStep s) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale + s.decay * p[i];
    square[i] = square[i] * s.alpha + s.rest * g * g;
    float variance = square[i];
    if (mean) {
      mean[i] += s.rest * (g - mean[i]);
      variance -= mean[i] * mean[i];
    }
    const float direction = g / (__builtin_sqrtf(variance) + s.epsilon);
    if (buffer) buffer[i] = buffer[i] * s.momentum + direction;
    p[i] -= s.rate * (buffer ? buffer[i] : direction);
  }
}

struct AdamStep {
  float scale, keep, keep_after, beta1, rest1, beta2, rest2, root, epsilon, rate;
};
LORAINE_CLONES void adam_block(float* p, float* m, float* v, const float* grad, int64_t n, AdamStep s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale;
    m[i] = m[i] * s.beta1 + s.rest1 * g;
    v[i] = v[i] * s.beta2 + s.rest2 * g * g;
    p[i] = (p[i] * s.keep - s.rate * (m[i] / (__builtin_sqrtf(v[i]) / s.root + s.epsilon))) * s.keep_after;
  }
}

struct MixStep {
  float scale, keep, beta1, rest1, beta2, rest2, beta3, rest3, correction, alpha, root, epsilon, rate;
};
LORAINE_CLONES void mix_block(float* p, float* fast, float* slow, float* v, const float* grad, int64_t n, MixStep s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale;
    fast[i] = fast[i] * s.beta1 + s.rest1 * g;
    slow[i] = slow[i] * s.beta3 + s.rest3 * g;
    v[i] = v[i] * s.beta2 + s.rest2 * g * g;
    const float direction = fast[i] / s.correction + s.alpha * slow[i];
    p[i] = p[i] * s.keep - s.rate * (direction / (__builtin_sqrtf(v[i]) / s.root + s.epsilon));
  }
}

struct GrokStep {
  float scale, keep, alpha, rest, lambda, beta1, rest1, beta2, rest2, epsilon, rate;
};
LORAINE_CLONES void grok_block(float* p, float* m, float* v, float* grok, const float* grad, int64_t n, GrokStep s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    float g = grad[i] * s.scale;
    grok[i] = grok[i] * s.alpha + s.rest * g;
    g += s.lambda * grok[i];
    m[i] = m[i] * s.beta1 + s.rest1 * g;
    v[i] = v[i] * s.beta2 + s.rest2 * g * g;
    p[i] = p[i] * s.keep - s.rate * (m[i] / (__builtin_sqrtf(v[i]) + s.epsilon));
  }
}

}  // namespace

void adagrad(Context& ctx, const Update& u, const Tensor& sum, const Adagrad& options) {
  const AdagradStep s{.scale = u.scale,
                      .decay = f(u.decay),
                      .rate = f(u.rate / (1 + static_cast<double>(u.step - 1) * options.rate_decay)),
                      .epsilon = f(options.epsilon)};
  const std::array<Moment, 1> states{Moment{sum}};
  check_update("adagrad", u, states);
  dispatch(ctx, "adagrad", [&] {
    over_blocks(states, u.value.numel(), [&](int64_t first, int64_t n, float* const* state) {
      adagrad_block(u.value.f32() + first, state[0], u.gradient.f32() + first, n, s);
    });
  });
}

void rmsprop(Context& ctx, const Update& u, const Moment& square, const Tensor& mean, const Tensor& buffer, const RmsProp& options) {
  const RmsStep s{.scale = u.scale,
                  .decay = f(u.decay),
                  .rate = f(u.rate),
                  .epsilon = f(options.epsilon),
                  .alpha = f(options.alpha),
                  .rest = f(1 - options.alpha),
                  .momentum = f(options.momentum)};
  const std::array<Moment, 1> states{square};
  check_update("rmsprop", u, states);
  for (const Tensor* t : {&mean, &buffer})
    check_op(!t->data || (t->dtype == Dtype::F32 && t->numel() == u.value.numel()), "rmsprop",
             "a state must have the size of the parameter");
  dispatch(ctx, "rmsprop", [&] {
    over_blocks(states, u.value.numel(), [&](int64_t first, int64_t n, float* const* state) {
      float *p = u.value.f32() + first, *g = u.gradient.f32() + first;
      if (!mean.data && !buffer.data) return rms_block(p, state[0], g, n, s);
      rms_block_with(p, state[0], mean.data ? mean.f32() + first : nullptr, buffer.data ? buffer.f32() + first : nullptr, g, n, s);
    });
  });
}

void adam(Context& ctx, const Update& u, const Moment& m, const Moment& v, const Adam& options) {
  const double root = std::sqrt(1 - power(options.beta2, u.step)), keep = 1 - u.rate * u.decay;
  const AdamStep s{.scale = u.scale,
                   .keep = f(options.decay_last ? 1 : keep),
                   .keep_after = f(options.decay_last ? keep : 1),
                   .beta1 = f(options.beta1),
                   .rest1 = f(1 - options.beta1),
                   .beta2 = f(options.beta2),
                   .rest2 = f(1 - options.beta2),
                   .root = f(options.plain_epsilon ? 1 : root),
                   .epsilon = f(options.epsilon),
                   .rate = f(u.rate * (options.plain_epsilon ? root : 1) / (1 - power(options.beta1, u.step)))};
  const std::array<Moment, 2> states{m, v};
  check_update("adam", u, states);
  dispatch(ctx, "adam", [&] {
    over_blocks(states, u.value.numel(), [&](int64_t first, int64_t n, float* const* state) {
      adam_block(u.value.f32() + first, state[0], state[1], u.gradient.f32() + first, n, s);
    });
  });
}

void ademamix(Context& ctx, const Update& u, const Moment& fast, const Moment& slow, const Moment& v, const AdEmaMix& options) {
  const MixStep s{.scale = u.scale,
                  .keep = f(1 - u.rate * u.decay),
                  .beta1 = f(options.beta1),
                  .rest1 = f(1 - options.beta1),
                  .beta2 = f(options.beta2),
                  .rest2 = f(1 - options.beta2),
                  .beta3 = f(options.beta3),
                  .rest3 = f(1 - options.beta3),
                  .correction = f(1 - power(options.beta1, u.step)),
                  .alpha = f(options.alpha),
                  .root = f(std::sqrt(1 - power(options.beta2, u.step))),
                  .epsilon = f(options.epsilon),
                  .rate = f(u.rate)};
  const std::array<Moment, 3> states{fast, slow, v};
  check_update("ademamix", u, states);
  dispatch(ctx, "ademamix", [&] {
    over_blocks(states, u.value.numel(), [&](int64_t first, int64_t n, float* const* state) {
      mix_block(u.value.f32() + first, state[0], state[1], state[2], u.gradient.f32() + first, n, s);
    });
  });
}

void grok_adam(Context& ctx, const Update& u, const Tensor& m, const Tensor& v, const Tensor& grok, const GrokAdam& options) {
  const GrokStep s{.scale = u.scale,
                   .keep = f(1 - u.rate * u.decay),
                   .alpha = f(options.alpha),
                   .rest = f(1 - options.alpha),
                   .lambda = f(options.lambda),
                   .beta1 = f(options.own_beta1),
                   .rest1 = f(1 - options.own_beta1),
                   .beta2 = f(options.beta2),
                   .rest2 = f(1 - options.beta2),
                   .epsilon = f(options.epsilon),
                   .rate = f(u.rate * std::sqrt(1 - power(options.beta2, u.step)) / (1 - power(options.beta1, u.step)))};
  const std::array<Moment, 3> states{Moment{m}, Moment{v}, Moment{grok}};
  check_update("grok_adam", u, states);
  dispatch(ctx, "grok_adam", [&] {
    over_blocks(states, u.value.numel(), [&](int64_t first, int64_t n, float* const* state) {
      grok_block(u.value.f32() + first, state[0], state[1], state[2], u.gradient.f32() + first, n, s);
    });
  });
}

}  // namespace loraine
