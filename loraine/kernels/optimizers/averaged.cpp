// Checks and CPU loops of schedule-free learning.
#include "loraine/kernels/optimizers/averaged.h"

#include <cmath>

#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/optimizers/blocks-inl.h"

namespace loraine {
namespace {

struct Step {
  float scale, decay, rate, y_rate, share, beta2, rest2, correction, epsilon;
  bool divides;
};

// torch's lerp: from the nearer end
inline float lerp(float from, float to, float weight) {
  return std::fabs(weight) < 0.5f ? from + weight * (to - from) : to - (to - from) * (1.0f - weight);
}

LORAINE_CLONES void free_block(float* y, float* z, float* v, const float* grad, int64_t n, Step s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    float g = grad[i] * s.scale;
    v[i] = v[i] * s.beta2 + s.rest2 * g * g;
    if (s.divides) g /= __builtin_sqrtf(v[i] / s.correction) + s.epsilon;
    g += s.decay * y[i];
    y[i] = lerp(y[i], z[i], s.share) + s.y_rate * g;
    z[i] -= s.rate * g;
  }
}

LORAINE_CLONES void free_sgd_block(float* y, float* z, const float* grad, int64_t n, Step s) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale + s.decay * y[i];
    y[i] = lerp(y[i], z[i], s.share) + s.y_rate * g;
    z[i] -= s.rate * g;
  }
}

LORAINE_CLONES void towards_block(float* value, const float* z, int64_t n, float weight) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) value[i] = lerp(value[i], z[i], weight);
}

LORAINE_CLONES void add_block(float* value, const float* change, int64_t n, float keep, float factor, float keep_after) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) value[i] = (value[i] * keep + factor * change[i]) * keep_after;
}

}  // namespace

void schedule_free(Context& ctx, const Update& u, const Tensor& z, const Tensor& v, const ScheduleFree& options) {
  const Step s{.scale = u.scale,
               .decay = static_cast<float>(u.decay),
               .rate = static_cast<float>(u.rate),
               .y_rate = static_cast<float>(u.rate * (options.beta1 * (1 - options.share) - 1)),
               .share = static_cast<float>(options.share),
               .beta2 = static_cast<float>(options.beta2),
               .rest2 = static_cast<float>(1 - options.beta2),
               .correction = static_cast<float>(1 - std::pow(options.beta2, static_cast<double>(u.step))),
               .epsilon = static_cast<float>(options.epsilon),
               .divides = options.divides};
  const int64_t n = u.value.numel();
  if (!v.data) {
    const std::array<Moment, 1> states{Moment{z}};
    check_update("schedule_free", u, states);
    return dispatch(ctx, "schedule_free", [&] {
      over_blocks(states, n, [&](int64_t first, int64_t count, float* const* state) {
        free_sgd_block(u.value.f32() + first, state[0], u.gradient.f32() + first, count, s);
      });
    });
  }
  const std::array<Moment, 2> states{Moment{z}, Moment{v}};
  check_update("schedule_free", u, states);
  dispatch(ctx, "schedule_free", [&] {
    over_blocks(states, n, [&](int64_t first, int64_t count, float* const* state) {
      free_block(u.value.f32() + first, state[0], state[1], u.gradient.f32() + first, count, s);
    });
  });
}

void go_towards(Context& ctx, const Tensor& value, const Tensor& z, double weight) {
  check_op(value.dtype == Dtype::F32 && z.dtype == Dtype::F32 && value.contiguous() && z.contiguous() && value.numel() == z.numel(),
           "go_towards", "both must be contiguous F32 of one size");
  dispatch(ctx, "go_towards", [&] {
    over_blocks(std::array<Moment, 1>{Moment{z}}, value.numel(), [&](int64_t first, int64_t count, float* const* state) {
      towards_block(value.f32() + first, state[0], count, static_cast<float>(weight));
    });
  });
}

void add_and_decay(Context& ctx, const Tensor& value, const Tensor& change, double factor, double decay, bool decay_last) {
  check_op(value.dtype == Dtype::F32 && change.dtype == Dtype::F32 && value.contiguous() && change.contiguous() &&
               value.numel() == change.numel(),
           "add_and_decay", "both must be contiguous F32 of one size");
  const float keep = static_cast<float>(1 - decay);
  dispatch(ctx, "add_and_decay", [&] {
    over_blocks(std::array<Moment, 0>{}, value.numel(), [&](int64_t first, int64_t count, float* const*) {
      add_block(value.f32() + first, change.f32() + first, count, decay_last ? 1.0f : keep, static_cast<float>(factor),
                decay_last ? keep : 1.0f);
    });
  });
}

}  // namespace loraine
