// Checks and CPU loops of SGD and Lion: scalars in double, elements in f32.
#include "loraine/kernels/optimizers/momentum.h"

#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/optimizers/blocks-inl.h"

namespace loraine {
namespace {

struct SgdStep {
  float scale, decay, rate, momentum, share;
  bool first, nesterov;
};

LORAINE_CLONES void sgd_plain(float* p, const float* grad, int64_t n, SgdStep s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale + s.decay * p[i];
    p[i] -= s.rate * g;
  }
}

LORAINE_CLONES void sgd_momentum(float* p, float* buffer, const float* grad, int64_t n, SgdStep s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale + s.decay * p[i];
    const float b = s.first ? g : buffer[i] * s.momentum + s.share * g;
    buffer[i] = b;
    p[i] -= s.rate * (s.nesterov ? g + s.momentum * b : b);
  }
}

struct LionStep {
  float scale, keep, rate, beta1, rest1, beta2, rest2;
};

LORAINE_CLONES void lion_block(float* p, float* m, const float* grad, int64_t n, LionStep s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale, direction = m[i] * s.beta1 + s.rest1 * g;
    p[i] = p[i] * s.keep - s.rate * (direction > 0 ? 1.0f : direction < 0 ? -1.0f : 0.0f);
    m[i] = m[i] * s.beta2 + s.rest2 * g;
  }
}

}  // namespace

void sgd(Context& ctx, const Update& u, const Tensor& buffer, const Sgd& options) {
  const SgdStep s{.scale = u.scale,
                  .decay = static_cast<float>(u.decay),
                  .rate = static_cast<float>(u.rate),
                  .momentum = static_cast<float>(options.momentum),
                  .share = static_cast<float>(1 - options.dampening),
                  .first = u.step == 1,
                  .nesterov = options.nesterov};
  const int64_t n = u.value.numel();
  if (options.momentum == 0) {
    check_update("sgd", u, std::array<Moment, 0>{});
    dispatch(ctx, "sgd", [&] {
      over_blocks(std::array<Moment, 0>{}, n, [&](int64_t first, int64_t count, float* const*) {
        sgd_plain(u.value.f32() + first, u.gradient.f32() + first, count, s);
      });
    });
    return;
  }
  const std::array<Moment, 1> states{Moment{buffer}};
  check_update("sgd", u, states);
  dispatch(ctx, "sgd", [&] {
    over_blocks(states, n, [&](int64_t first, int64_t count, float* const* state) {
      sgd_momentum(u.value.f32() + first, state[0], u.gradient.f32() + first, count, s);
    });
  });
}

void lion(Context& ctx, const Update& u, const Moment& m, const Lion& options) {
  const LionStep s{.scale = u.scale,
                   .keep = static_cast<float>(1 - u.rate * u.decay),
                   .rate = static_cast<float>(u.rate),
                   .beta1 = static_cast<float>(options.beta1),
                   .rest1 = static_cast<float>(1 - options.beta1),
                   .beta2 = static_cast<float>(options.beta2),
                   .rest2 = static_cast<float>(1 - options.beta2)};
  const std::array<Moment, 1> states{m};
  check_update("lion", u, states);
  dispatch(ctx, "lion", [&] {
    over_blocks(states, u.value.numel(), [&](int64_t first, int64_t count, float* const* state) {
      lion_block(u.value.f32() + first, state[0], u.gradient.f32() + first, count, s);
    });
  });
}

}  // namespace loraine
